// The charts over time: what each draws of a series, and the sentence that says it.

/** Colours of lines that have no meaning of their own. */
const LINES = ["blue", "orange", "green", "purple", "red", "teal", "brown", "grey"];

/** Every chart over time, in the order of the page; each builds what it shows, or nothing. */
const TIME_CHARTS = [
  ["response", (series) => buildResponse(series)],
  ["response-heat", (series) => buildHeat(series, "response", "Response time, all samples")],
  ["rates", (series) => buildRates(series)],
  ["streams", (series, report) => buildStreams(series, report)],
  ["lateness", (series) => buildLateness(series)],
  ["lateness-heat", (series) => buildHeat(series, "lateness", "Lateness, all samples")],
  ["missed", (series) => buildMissed(series)],
  ["connects", (series) => buildConnects(series)],
  ["connect-time", (series) => buildConnectTime(series)],
  ["losses", (series) => buildLosses(series)],
  ["busy", (series) => buildBusy(series)],
];

function overTime(series, built) {
  return { overTime: true, x: series.at, stage: series.stage, ...built };
}

/** `highest 12.0 ms at 0:31`. */
function highest(series, values, show) {
  const found = extent(values);
  return found ? `highest ${show(found.max)} at ${clock(series.at[found.at])}` : "no value";
}

/** Times on a log axis have no zero: what took less than the clock's step is drawn there. */
function drawable(values) {
  return values.map((value) => (value === null || value === undefined ? null : Math.max(value, 1e-6)));
}

function buildResponse(series) {
  const { response_p50, response_p90, response_p99, response_max, service_p99 } = series;
  if (!extent(response_max)) return null;
  const line = (label, values, color, more) => ({ label, values: drawable(values), color, ...more });
  const lines = [
    line("p50", response_p50, "blue-1", { width: 2 }),
    line("p90", response_p90, "blue-2"),
    line("p99", response_p99, "blue-3"),
    line("max", response_max, "blue-4", { width: 1 }),
  ];
  if (extent(service_p99)) lines.push(line("service p99", service_p99, "orange", { width: 1.2, dash: [4, 3] }));
  return overTime(series, {
    title: "Response time",
    summary: `From due to answered. p50 ${between(response_p50, seconds)}; p99 ${between(response_p99, seconds)}, ${highest(series, response_p99, seconds)}; max ${highest(series, response_max, seconds).replace("highest ", "")}.`,
    format: seconds,
    log: true,
    series: lines,
    bands: [[2, 1, "blue", 0.34], [3, 2, "blue", 0.2], [4, 3, "blue", 0.09]],
  });
}

/** `1.0 ms to 3.5 ms`. */
function between(values, show) {
  const found = extent(values);
  if (!found) return "without value";
  const [low, high] = [show(found.min), show(found.max)];
  return low === high ? low : `${low} to ${high}`;
}

function buildRates(series) {
  if (!extent(series.rate_offered)?.max && !extent(series.rate_received)?.max) return null;
  return overTime(series, {
    title: "Payload rate",
    summary: `Offered ${highest(series, series.rate_offered, rate)}; sent up to ${rate(extent(series.rate_sent).max)}, received up to ${rate(extent(series.rate_received).max)}.`,
    format: rate,
    series: [
      { label: "offered", values: series.rate_offered, color: "grey", width: 2.5 },
      { label: "sent", values: series.rate_sent, color: "blue" },
      { label: "received", values: series.rate_received, color: "orange", dash: [5, 3] },
    ],
  });
}

function buildStreams(series, report) {
  const found = extent(series.streams_open);
  if (!found?.max) return null;
  const asked = report?.load?.streams_requested;
  return overTime(series, {
    title: "Streams open",
    summary: `Most ${thousands(found.max)}${asked ? ` of ${thousands(asked)} asked for` : ""}, first at ${clock(series.at[found.at])}.`,
    format: (value) => thousands(Math.round(value)),
    series: [{ label: "open", values: series.streams_open, color: "green", fill: 0.15 }],
  });
}

function buildLateness(series) {
  if (!extent(series.lateness_p99)) return null;
  const line = (label, values, color, width) => ({ label, values: drawable(values), color, width });
  return overTime(series, {
    title: "Lateness of the generator",
    summary: `From due to sent: our own part of the response time. p50 ${between(series.lateness_p50, seconds)}; p99 ${between(series.lateness_p99, seconds)}, ${highest(series, series.lateness_p99, seconds)}.`,
    format: seconds,
    log: true,
    series: [
      line("p50", series.lateness_p50, "purple-1", 2),
      line("p99", series.lateness_p99, "purple-2", 1.5),
      line("max", series.lateness_max, "purple-3", 1),
    ],
    bands: [[2, 1, "purple", 0.25], [3, 2, "purple", 0.1]],
  });
}

function buildMissed(series) {
  const missed = sum(series.ticks_missed);
  if (missed === 0) return null;
  return overTime(series, {
    title: "Ticks missed",
    summary: `${thousands(missed)} of ${thousands(sum(series.ticks_due))} due; ${highest(series, perSecond(series, series.ticks_missed), (value) => `${plain(value)} a second`)}.`,
    format: plain,
    series: [{ label: "missed a second", values: perSecond(series, series.ticks_missed), color: "red", fill: 0.25 }],
  });
}

function buildConnects(series) {
  const connects = sum(series.connects);
  if (connects === 0) return null;
  const values = perSecond(series, series.connects);
  return overTime(series, {
    title: "Connects",
    summary: `${many(connects, "connect")}; ${highest(series, values, (value) => `${plain(value)} a second`)}.`,
    format: plain,
    series: [{ label: "connects a second", values, color: "teal", fill: 0.15 }],
  });
}

function buildConnectTime(series) {
  if ((extent(series.connect_p99)?.count ?? 0) < 2) return null;
  return overTime(series, {
    title: "Connect time",
    summary: `p99 of the connects of each second: ${between(series.connect_p99, seconds)}.`,
    format: seconds,
    log: true,
    series: [{ label: "p99", values: drawable(series.connect_p99), color: "teal" }],
  });
}

/** Failed connects and lost streams, each class its own line. */
function buildLosses(series) {
  const lines = [];
  for (const [name, word] of [["connect_failures_by_class", "failed"], ["disconnects_by_class", "lost"]]) {
    for (const [label, counts] of Object.entries(series[name])) {
      if (sum(counts) > 0) lines.push({ label: `${word}: ${label}`, values: perSecond(series, counts), total: sum(counts) });
    }
  }
  if (lines.length === 0) return null;
  lines.sort((one, other) => other.total - one.total);
  return overTime(series, {
    title: "Failed connects and lost streams",
    summary: `A second, by class: ${lines.map((line) => `${line.label} ${thousands(line.total)} in all`).join("; ")}.`,
    format: plain,
    series: lines.map((line, at) => ({ ...line, color: LINES[(at + 4) % LINES.length], step: true })),
  });
}

function buildBusy(series) {
  if (!extent(series.busy_max)?.max) return null;
  const workers = series.busy.filter((worker) => worker.values.length === series.length);
  return overTime(series, {
    title: "Busy share of the workers",
    summary: `The busiest core ${between(series.busy_max, roughly)}, ${highest(series, series.busy_max, roughly)}. Above 90 % the generator is the limit.`,
    format: roughly,
    max: 1,
    series: [
      ...workers.map(({ worker, values }, at) => ({ label: `worker ${worker}`, values, color: LINES[at % LINES.length], width: 1 })),
      ...(workers.length === 1 ? [] : [{ label: "busiest", values: series.busy_max, color: "ink", width: 1.5, dash: [4, 3] }]),
      { label: "", values: series.at.map(() => 0.9), color: "bad", width: 1, dash: [2, 4] },
    ],
  });
}

/** A query of `[observe]`: its own chart, for its unit is its own. */
function buildObserved(series, name) {
  const values = series.observe[name];
  if (!extent(values)) return null;
  return overTime(series, {
    title: name,
    summary: `${between(values, plain)}; ${highest(series, values, plain)}.`,
    format: plain,
    series: [{ label: name, values, color: "brown", spanGaps: true }],
  });
}

/** Builds every chart that the series has something for: `[key, built]`. */
function buildTimeCharts(series, report) {
  const own = TIME_CHARTS.map(([key, build]) => [`chart-${key}`, build(series, report)]);
  const observed = Object.keys(series.observe).map((name, at) => [`chart-observe-${at}`, buildObserved(series, name)]);
  return [...own, ...observed].filter(([, built]) => built !== null);
}

/** Tells the charts what they share. */
function setTimeline(series, report, disruptions) {
  timeline.stages = stagesOf(series);
  const from = (series.at[0] ?? 0) - (series.seconds[0] || 1);
  timeline.all = { min: Math.max(0, from), max: series.at.at(-1) ?? 1 };
  timeline.marks = [...(report?.marks ?? []), ...unmarked(disruptions)].sort((one, other) => one.at - other.at);
  timeline.disruptions = disruptionSpans(disruptions, timeline.all.max);
  timeline.saturated = [];
  for (let row = 0; row < series.length; row++) {
    if (!series.saturated[row]) continue;
    const from = series.at[row] - (series.seconds[row] || 1);
    const last = timeline.saturated.at(-1);
    if (last && last[1] >= from) last[1] = series.at[row];
    else timeline.saturated.push([from, series.at[row]]);
  }
}
