// The most that a target carries: the JSON of `scalectl find-max --json`, as its steps found it.

const SOUGHT = {
  found: ["✓", "Found", "good"],
  at_least: ["≥", "At least", "warn"],
  nothing: ["✗", "Nothing held", "bad"],
  aborted: ["■", "Aborted", "warn"],
};

/** A load as people say it; shorter beside an axis. */
function loadName({ asked }, level) {
  return asked.vary === "rate" ? `${threeDigits(level)} a stream` : many(level, "stream");
}

/** A rate with three digits that count: what held and what broke are 3 % apart. */
function threeDigits(value) {
  if (value < 1e3) return `${fixed(value, 0)} B/s`;
  const [scaled, unit] = value < 1e6 ? [value / 1e3, "KB/s"] : [value / 1e6, "MB/s"];
  return `${fixed(scaled, scaled < 10 ? 2 : scaled < 100 ? 1 : 0)} ${unit}`;
}

function loadOnAxis({ asked }) {
  return asked.vary === "rate" ? onAxis(rate) : thousands;
}

function renderSoughtHead(found) {
  const [glyph, word, tone] = SOUGHT[found.outcome] ?? ["·", found.outcome, "quiet"];
  const max = found.max > 0 ? loadName(found, found.max) : "";
  document.title = `${word}: ${max} of ${found.asked.targets.join(", ")}`;
  return h("header", { id: "head", class: `verdict ${tone}` },
    h("div", { class: "band" },
      h("h1", {},
        h("span", { class: "word" }, h("span", { class: "glyph", "aria-hidden": "true" }, glyph), h("span", {}, word)),
        h("span", { class: "name" }, [max, found.asked.targets.join(", ")].filter(Boolean).join(" · "))),
      h("div", { class: "said" },
        h("ul", { class: "reasons" }, found.sentences.map((sentence) => h("li", {}, sentence))),
        h("p", { class: "when" }, `${moment(found.at)} · run ${found.run} · exit code ${found.exit_code}`))));
}

/** The last step of each load, ascending. */
function lastSteps(steps) {
  const last = new Map(steps.filter((step) => step.seconds > 0).map((step) => [step.level, step]));
  return [...last.values()].sort((one, other) => one.level - other.level);
}

/** Upright lines at what was carried, at what broke, and at the knee. */
function paintLoads(found) {
  const marks = [
    [found.max, "carried", "said-good"],
    [found.broke?.level ?? 0, "broke", "said-bad"],
    [found.knee?.level ?? 0, "knee", "muted"],
  ].filter(([level]) => level > 0);
  return (u) => {
    const { ctx, bbox } = u;
    const ratio = uPlot.pxRatio;
    ctx.save();
    ctx.font = `${10 * ratio}px system-ui, sans-serif`;
    ctx.textBaseline = "top";
    ctx.textAlign = "left";
    ctx.lineWidth = ratio;
    ctx.setLineDash([4 * ratio, 3 * ratio]);
    marks.forEach(([level, text, color], row) => {
      const left = Math.round(u.valToPos(level, "x", true)) + 0.5;
      if (left < bbox.left || left > bbox.left + bbox.width) return;
      ctx.strokeStyle = ctx.fillStyle = ink(color);
      ctx.beginPath();
      ctx.moveTo(left, bbox.top);
      ctx.lineTo(left, bbox.top + bbox.height);
      ctx.stroke();
      const width = ctx.measureText(text).width;
      // Beyond what was carried there is room on the other side.
      const right = level > found.max || left - width - 4 * ratio < bbox.left;
      const from = right ? left + 4 * ratio : left - width - 4 * ratio;
      ctx.fillText(text, from, bbox.top + (3 + 12 * row) * ratio);
    });
    ctx.restore();
  };
}

/** A chart over load. */
function overLoad(found, steps, title, summary, format, log, lines) {
  const x = steps.map((step) => step.level);
  const [least, most] = [x[0], x.at(-1)];
  const ticks = logSplits(null, null, least * 0.95, most * 1.05);
  return {
    title,
    summary,
    x,
    xFormat: loadOnAxis(found),
    xName: found.asked.vary === "rate" ? "Payload a stream" : "Streams",
    xRange: () => [least * 0.95, most * 1.05],
    xSplits: () => (ticks.length > 2 ? ticks : [least, most]),
    format,
    log,
    paint: paintLoads(found),
    series: lines.map(([label, color, value, dash]) => {
      const values = steps.map(value);
      return { label, color, dash, values: log ? drawable(values) : values, width: 2, spanGaps: true };
    }),
  };
}

function buildLoadCharts(found) {
  const steps = lastSteps(found.steps);
  if (steps.length < 2) return [];
  const held = steps.filter((step) => step.limit === null).length;
  const knee = found.knee ? ` The knee is at ${loadName(found, found.knee.level)}.` : "";
  const charts = [];
  if (steps.some((step) => step.response)) {
    charts.push(["chart-response-load", overLoad(found, steps, "Response against load", `${held} of ${many(steps.length, "load")} held.${knee}`, seconds, true, [
      ["p50", "blue", (step) => step.response?.p50 ?? null],
      ["p99", "orange", (step) => step.response?.p99 ?? null],
      ["service p99", "purple", (step) => step.service_p99, [4, 4]],
    ])]);
  }
  charts.push(["chart-sent-load", overLoad(found, steps, "Messages a second against load", "Sent, and what of them came back.", (value) => `${thousands(Math.round(value))}/s`, false, [
    ["sent", "blue", (step) => step.messages_per_second],
    ["echoed", "orange", (step) => (step.echoed_ratio === null ? null : step.messages_per_second * step.echoed_ratio), [4, 4]],
  ])]);
  return charts;
}

function saidOfStep(step) {
  if (step.limit === null) return h("span", { class: "state good" }, step.hold ? "confirmed" : "held");
  if (step.limit !== "target") return h("span", { class: "state warn" }, `this host: ${step.limit}`);
  return h("span", { class: "state bad" }, "broke");
}

function counts(classes) {
  return Object.entries(classes).map(([name, count]) => `${thousands(count)} ${name}`).join(", ");
}

function renderSteps(found) {
  const rows = found.steps.map((step) => [
    loadName(found, step.level),
    clock(step.at),
    step.seconds,
    saidOfStep(step),
    step.broke.map((result) => h("div", {}, h("code", {}, result.expression), ` ${optional(result.value, (value) => thresholdValue(result.expression, value))}`)),
    thousands(step.open),
    thousands(Math.round(step.messages_per_second)),
    optional(step.response?.p50, seconds),
    optional(step.response?.p99, seconds),
    optional(step.lateness_p99, seconds),
    roughly(step.busy),
    counts(step.disconnects),
    counts(step.connect_failures),
  ]);
  const back = found.steps.filter((step) => step.recovery).map(({ recovery }) => [
    loadName(found, recovery.from),
    loadName(found, recovery.to),
    recovery.seconds === null ? `not within ${seconds(recovery.watched)}` : recovery.seconds === 0 ? "at once" : seconds(recovery.seconds),
  ]);
  return section("steps", "Steps",
    table("Loads in the order in which they were tried", ["Load", "#At", "#Seconds", "Said of it", "Not met", "#Open", "#Messages/s", "#Response p50", "#p99", "#Lateness p99", "#Busiest", "Lost", "Not opened"], rows),
    table("Coming down again", ["From", "To", "#All was well after"], back));
}

function showSought(found) {
  if (!found) return;
  document.getElementById("head").replaceWith(renderSoughtHead(found));
  fill(slots.get("warnings"), found.warnings.length ? h("ul", { class: "warnings" }, found.warnings.map((text) => h("li", {}, text))) : null);
  const built = buildLoadCharts(found);
  const note = h("p", { class: "note" }, "Each point is the last step of a load; times are exact percentiles of all its messages. Response counts from when a message was due.");
  if (built.length) chartSection("latency", "Response against load", built, note);
  fill(slots.get("parts"), renderSteps(found));
  const { asked } = found;
  fill(slots.get("runfile"), section("asked", "What was asked", facts([
    ["Targets", asked.targets.join(", ")],
    ["Group", asked.group],
    ["Beside what grows", asked.load],
    ["Until", asked.until.join("; ")],
    ["From", loadName(found, asked.from)],
    ["To", asked.to === null ? null : loadName(found, asked.to)],
    ["Held for", span(asked.hold)],
  ])));
  showSections();
}
