// The series of a run, by column. It comes so within a report's page, and as rows from elsewhere.

/** Figures of a row that are one number. */
const SCALARS = [
  "at", "seconds", "streams_open", "rate_offered", "rate_sent", "rate_received", "messages_sent",
  "messages_echoed", "ticks_due", "ticks_missed", "connects_begun", "connects", "connect_failures", "disconnects", "connect_p99",
  "lateness_p50", "lateness_p99", "lateness_max", "service_p50", "service_p99", "response_p50", "response_p90",
  "response_p99", "response_max", "busy_max", "saturated",
];
const HEATS = ["response_heat", "lateness_heat"];
const BY_CLASS = ["connect_failures_by_class", "disconnects_by_class"];

function emptySeries() {
  const series = { length: 0, stage: [], busy: [], observe: {} };
  for (const name of [...SCALARS, ...HEATS]) series[name] = [];
  for (const name of BY_CLASS) series[name] = {};
  return series;
}

/** What a report has as its series, whichever way it came. */
function seriesOf(data) {
  const series = emptySeries();
  if (Array.isArray(data)) data.forEach((row) => appendRow(series, row));
  else if (data?.at) takeColumns(series, data);
  return series;
}

function takeColumns(series, data) {
  series.length = data.at.length;
  for (const name of [...SCALARS, ...HEATS]) series[name] = data[name] ?? [];
  for (const [name, rows] of data.stage) for (let row = 0; row < rows; row++) series.stage.push(name);
  for (const name of BY_CLASS) {
    for (const [label, counts] of Object.entries(data[name])) {
      const column = new Array(series.length).fill(0);
      for (const [row, count] of counts) column[row] = count;
      series[name][label] = column;
    }
  }
  for (const { worker, values } of data.busy) series.busy.push({ worker, values });
  series.observe = data.observe;
}

/** One more row; one that is there already is not taken twice. */
function appendRow(series, row) {
  if (series.length > 0 && row.at <= series.at[series.length - 1]) return false;
  for (const name of SCALARS) series[name].push(typeof row[name] === "boolean" ? Number(row[name]) : row[name] ?? null);
  for (const name of HEATS) {
    const { first, counts } = row[name] ?? { first: 0, counts: [] };
    series[name].push(counts.length ? [first, ...counts] : []);
  }
  series.stage.push(row.stage);
  for (const name of BY_CLASS) pushInto(series[name], row[name] ?? {}, series.length, 0);
  pushInto(series.observe, row.observe ?? {}, series.length, null);
  (row.busy ?? []).forEach((value, worker) => {
    series.busy[worker] ??= { worker, values: new Array(series.length).fill(null) };
    series.busy[worker].values.push(value);
  });
  series.length += 1;
  for (const { values } of series.busy) while (values.length < series.length) values.push(null);
  return true;
}

/** Adds a row's named values to columns of `length` rows; those not named get `missing`. */
function pushInto(columns, values, length, missing) {
  for (const [name, value] of Object.entries(values)) {
    columns[name] ??= new Array(length).fill(missing);
    columns[name].push(value);
  }
  for (const column of Object.values(columns)) if (column.length === length) column.push(missing);
}

/** The run's stages in time: `{name, from, to, steady}`. A stage of the series has a `/` in its name. */
function stagesOf(series) {
  const stages = [];
  for (let row = 0; row < series.length; row++) {
    const [name, to] = [series.stage[row], series.at[row]];
    const last = stages.at(-1);
    if (last?.name === name) last.to = to;
    else stages.push({ name, from: last ? last.to : Math.max(0, to - (series.seconds[row] || 1)), to, steady: name.includes("/") });
  }
  return stages;
}

/** Least, greatest and where the greatest was, of what has a value. */
function extent(values) {
  let [min, max, at, count] = [Infinity, -Infinity, -1, 0];
  values.forEach((value, row) => {
    if (value === null || value === undefined) return;
    count += 1;
    if (value < min) min = value;
    if (value > max) [max, at] = [value, row];
  });
  return count > 0 ? { min, max, at, count } : null;
}

function sum(values) {
  return values.reduce((total, value) => total + (value ?? 0), 0);
}

/** A count of a row as what it is a second: rows may span several. */
function perSecond(series, values) {
  return values.map((value, row) => (value === null ? null : value / (series.seconds[row] || 1)));
}
