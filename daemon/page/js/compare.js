// Two sides of runs beside each other: the JSON of `scalectl compare --json`, numbers as its text has them.

const COMPARED = {
  better: ["▲", "Better", "good"],
  worse: ["▼", "Worse", "bad"],
  no_difference: ["=", "No difference seen", "quiet"],
  cannot_judge: ["?", "Cannot judge", "warn"],
};
const SIDES = [["base", "blue"], ["new", "orange"]];
/** The bar of an interval: its width and height, and the least change that it has room for. */
const BAR = { width: 150, height: 12, least: 0.1, most: 1 };

/** A share with its sign, and as many digits as mean something. */
function signed(share) {
  const value = share * 100;
  const size = Math.abs(value);
  const sign = value < 0 ? "-" : "+";
  if (size < 0.0005) return "0 %";
  if (size >= 1000) return `${share + 1 < 0 ? "-" : "+"}${fixed(Math.abs(share + 1), 0)} times`;
  return `${sign}${fixed(size, size < 0.95 ? 3 : size < 9.95 ? 1 : 0)} %`;
}

/** A value in a comparison: finer than elsewhere, for it is the difference that counts. */
function compared(unit, value) {
  if (unit === "seconds") return value < 0.1 ? `${fixed(value * 1e3, 3)} ms` : seconds(value);
  if (unit === "bytes_per_second") return rate(value);
  if (unit === "ratio") return percent(value);
  if (unit === "microseconds") return `${fixed(value, 2)} us`;
  return fixed(value, 4);
}

function interval(low, high) {
  return low === null || high === null ? "" : `${signed(low)} to ${signed(high)}`;
}

function renderComparedHead({ verdict, base, new: after }) {
  const [glyph, word, tone] = COMPARED[verdict.outcome] ?? ["·", verdict.outcome, "quiet"];
  const alike = base.runs[0].name === after.runs[0].name; // then the names do not tell them apart
  const name = (side) => side.runs.map((run) => (alike ? run.source : run.name) || run.id)[0] + (side.runs.length > 1 ? ` and ${side.runs.length - 1} more` : "");
  document.title = `${word}: ${name(base)} against ${name(after)}`;
  return h("header", { id: "head", class: `verdict ${tone}` },
    h("div", { class: "band" },
      h("h1", {},
        h("span", { class: "word" }, h("span", { class: "glyph", "aria-hidden": "true" }, glyph), h("span", {}, word)),
        h("span", { class: "name" }, `${name(base)} → ${name(after)}`)),
      h("div", { class: "said" },
        verdict.reasons.length ? h("ul", { class: "reasons" }, verdict.reasons.map((reason) => h("li", {}, reason))) : null,
        h("p", { class: "when" }, `${verdict.evidence} evidence · ${many(base.runs.length, "run")} against ${thousands(after.runs.length)} · exit code ${verdict.exit_code}`))));
}

function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A change and its interval about zero, in the colour of what is said of it. */
function intervalBar({ change, low, high, verdict, least }, most) {
  if (low === null || high === null || change === null) return "";
  const { width, height } = BAR;
  const at = (share) => width / 2 + Math.max(-1, Math.min(1, share / most)) * (width / 2 - 3);
  const middle = height / 2;
  return svg("svg", { class: `interval ${verdict}`, width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
    svg("rect", { class: "least", x: at(-least), y: 0, width: Math.max(1, at(least) - at(-least)), height }),
    svg("line", { class: "zero", x1: at(0), x2: at(0), y1: 0, y2: height }),
    svg("line", { class: "reach", x1: at(low), x2: Math.max(at(high), at(low) + 1), y1: middle, y2: middle }),
    svg("circle", { cx: at(change), cy: middle, r: 3.2 }));
}

const WORDS = { better: ["good", "better"], worse: ["bad", "WORSE"], same: ["quiet", "no difference seen"], unknown: ["quiet", "not judged"] };

function figuresTable(figures, caption, most) {
  const rows = figures.map((row) => {
    const name = row.group ? row.name.replace(`${row.group}.`, "") : row.name;
    const points = row.scale === "points" ? " pt" : "";
    const [tone, word] = WORDS[row.verdict] ?? ["quiet", row.verdict];
    return [
      [name, row.decides ? h("span", { class: "note", title: "has a say in the verdict" }, " decides") : ""],
      h("data", { value: row.base ?? "" }, optional(row.base, (value) => compared(row.unit, value))),
      h("data", { value: row.new ?? "" }, optional(row.new, (value) => compared(row.unit, value))),
      h("data", { value: row.change ?? "" }, optional(row.change, (value) => signed(value) + points)),
      intervalBar(row, most),
      interval(row.low, row.high),
      h("span", { class: `state ${tone}` }, word),
    ];
  });
  return table(caption, ["Figure", "#Base", "#New", "#Change", "Drawn", "Interval", "Said of it"], rows);
}

function renderFigures({ figures, regressions, verdict }) {
  const reach = figures.filter((row) => row.decides && row.low !== null).flatMap((row) => [Math.abs(row.low), Math.abs(row.high)]);
  const most = Math.min(BAR.most, Math.max(BAR.least, ...reach));
  const groups = [...new Set(figures.map((row) => row.group))];
  const answers = { met: ["good", "met"], exceeded: ["bad", "EXCEEDED"], undecided: ["warn", "undecided"] };
  const limits = regressions.map((limit) => {
    const [tone, word] = answers[limit.result] ?? ["quiet", limit.result];
    return [h("code", {}, limit.expression), h("span", { class: `state ${tone}` }, word), optional(limit.worse, signed), interval(limit.low, limit.high)];
  });
  return section("figures", "Figures",
    table("What was allowed to be worse", ["Limit", "State", "#Worse by", "Interval"], limits),
    groups.map((group) => figuresTable(figures.filter((row) => row.group === group), group ? `Group ${group}` : "The whole run", most)),
    h("p", { class: "note" }, `Bars are changes with their intervals, up to ±${fixed(most * 100, 0)} %; the grey band is what counts as no difference. Intervals of figures that decide hold all together with ${fixed(verdict.confidence * 100, 0)} %.`));
}

const DISRUPTED = [
  ["Dropped", (it) => it.streams_dropped, thousands],
  ["Share dropped", (it) => it.share, percent],
  ["Users affected", (it) => it.users_affected, thousands],
  ["Back p50", (it) => it.recover?.p50, seconds],
  ["Back p99", (it) => it.recover?.p99, seconds],
  ["Back max", (it) => it.recover?.max, seconds],
  ["Never back", (it) => it.never_back, thousands],
  ["Bytes lost", (it) => it.bytes_lost, thousands],
  ["Connects/s at most", (it) => it.storm.offered_per_second_max, thousands],
  ["Delivered meanwhile", (it) => it.delivered_ratio, percent],
  ["Response p99 meanwhile", (it) => it.response_p99, seconds],
];

/** Disruptions that both sides have under the same mark, a table each; of several runs a side, a value a run. */
function renderShared(shared) {
  const side = (of, read, format) => of.map((it) => optional(read(it) ?? null, format)).join(", ");
  const one = ({ mark, number, base, new: after }) => table(`“${mark}”${number > 1 ? ` (${number})` : ""}`, ["", "#Base", "#New"],
    DISRUPTED.filter(([, read]) => [...base, ...after].some((it) => (read(it) ?? null) !== null))
      .map(([name, read, format]) => [name, side(base, read, format), side(after, read, format)]));
  if (!shared?.length) return null;
  return section("disruptions", "Disruptions under the same mark", shared.map(one),
    h("p", { class: "note" }, "Nothing of these is judged: one event a run is no sample."));
}

function renderSides({ base, new: after, differences, runs_needed: needed, notes }) {
  const rows = [["base", base], ["new", after]].flatMap(([side, { runs }]) => runs.map((run) => [
    run.id, side, run.name ?? "", moment(run.started_at), run.outcome, run.saturated ? "yes" : "no", thousands(run.streams), span(run.steady_seconds), run.version, run.kernel ?? "",
  ]));
  return section("runs", "Runs",
    notes.map((note) => h("p", {}, note)),
    table("Runs of both sides", ["Run", "Side", "Name", "Started", "Outcome", "Saturated", "#Streams", "#Steady", "scaled", "Kernel"], rows),
    table("What differs beside the target", ["What", "Base", "New", "Too much to judge"], differences.map(({ what, base: one, new: other, matters }) => [what, one, other, matters ? "yes" : "no"])),
    table("Runs a side that see a change in 9 of 10 tries", ["Figure", "#Change", "#Runs"], needed.map(({ name, change, runs }) => [name, signed(change), optional(runs, thousands)])));
}

/** A figure of every run over steady state, both sides in their colours. */
function buildComparedOverTime(series, name, title, format, log) {
  const runs = SIDES.flatMap(([side, color]) => series[side].map((run, at) => ({ run, color, label: at === 0 ? side : "" })));
  const places = [...new Set(runs.flatMap(({ run }) => run.at))].sort((one, other) => one - other);
  if (places.length < 2) return null;
  const lines = runs.map(({ run, color, label }) => {
    const known = new Map(run.at.map((place, at) => [place, run[name][at]]));
    return { label, color, values: places.map((place) => known.get(place) ?? null), spanGaps: true, width: 1.2 };
  });
  const values = (side) => series[side].flatMap((run) => run[name]);
  if (!extent([...values("base"), ...values("new")])) return null;
  return {
    overTime: true,
    x: places,
    stage: places.map(() => ""),
    title,
    summary: `Base ${between(values("base"), format)}; new ${between(values("new"), format)}. Seconds since steady state began, a line a run.`,
    format,
    log,
    series: log ? lines.map((line) => ({ ...line, values: drawable(line.values) })) : lines,
  };
}

function showComparedCharts({ series, percentiles }) {
  const built = [
    ["chart-response-p99", buildComparedOverTime(series, "response_p99", "Response p99", seconds, true)],
    ["chart-response-p50", buildComparedOverTime(series, "response_p50", "Response p50", seconds, true)],
    ["chart-sent", buildComparedOverTime(series, "rate_sent", "Payload sent", rate, false)],
    ["chart-lateness-p99", buildComparedOverTime(series, "lateness_p99", "Lateness p99 of the generator", seconds, true)],
  ].filter(([, chart]) => chart);
  const places = built.map(([, chart]) => chart.x);
  timeline.all = { min: Math.min(0, ...places.map((at) => at[0])), max: Math.max(1, ...places.map((at) => at.at(-1))) };
  const curves = DISTRIBUTIONS.map(([name]) => {
    const sides = SIDES.map(([side, color]) => [side, color, percentiles[side]?.[name], 0]);
    const at = (curve, quantile) => optional(curve.find(([reached]) => reached >= quantile)?.[1], seconds);
    const said = sides.filter(([, , curve]) => curve?.length).map(([side, , curve]) => `${side} p50 ${at(curve, 0.5)}, p99 ${at(curve, 0.99)}, max ${at(curve, 1)}`);
    return [`chart-distribution-${name}`, buildDistribution(sides, `${capital(name)} by percentile`, `${capital(said.join("; "))}.`)];
  }).filter(([, chart]) => chart);
  if (built.length) chartSection("time", "Over time", built);
  if (curves.length) chartSection("latency", "Latency", curves);
}

function showComparison(comparison) {
  if (!comparison) return;
  document.getElementById("head").replaceWith(renderComparedHead(comparison));
  fill(slots.get("summary"), renderFigures(comparison));
  fill(slots.get("parts"), renderShared(comparison.disruptions));
  showComparedCharts(comparison);
  fill(slots.get("host"), renderSides(comparison));
  showSections();
}
