// One page, several feeds: a report within the page, a going run as it happens, a comparison, a search.

/** The page tries again after so long where the daemon closed the feed, in ms. */
const AGAIN_MS = 3000;

const view = { kind: document.documentElement.dataset.kind, report: null, event: null, going: false, lost: null, series: emptySeries(), until: 0 };

/** Parts of the page in their order, and whether a second changes them. */
const PARTS = [
  ["warnings", renderBanners, true],
  ["summary", renderTiles, true],
  ["disruptions", renderDisruptions, true],
  ["steps", renderRehearsal, true],
  ["thresholds", renderThresholds, true],
  ["delivered", renderDelivered, false],
  ["time", showTime, true],
  ["latency", showLatency, false],
  ["failures", renderFailures, true],
  ["parts", renderParts, false],
  ["streams", renderStreams, false],
  ["observed", renderObserved, false],
  ["coder", renderCoder, false],
  ["servers", renderServers, false],
  ["marks", renderMarks, false],
  ["generator", renderGenerator, true],
  ["host", renderHost, false],
  ["runfile", renderRunFile, false],
];

const slots = new Map(PARTS.map(([name]) => [name, h("div", { "data-slot": name })]));

/** Puts a part in its place, unless it says the same; what was open or focused there stays so. */
function fill(slot, element) {
  const old = slot.firstElementChild;
  if (old === element || (old && element && old.isEqualNode(element))) return;
  const open = [...slot.querySelectorAll("details[open][id]")].map((details) => details.id);
  const focused = slot.contains(document.activeElement) ? document.activeElement.id : "";
  slot.replaceChildren(...(element ? [element] : []));
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  if (focused) document.getElementById(focused)?.focus();
}

/** Shows what is known: all of it, or what a second changes. */
function show(all) {
  if (document.hidden && view.kind === "live") return;
  const head = renderHead(view);
  const old = document.getElementById("head");
  if (!old.isEqualNode(head)) old.replaceWith(head);
  setTimeline(view.series, view.report, disruptionsOf(view));
  for (const [name, render, often] of PARTS) if (all || often) fill(slots.get(name), render(view));
  showSections();
}

/** Sections whose title is too long to be one of many. */
const SHORT = { delivered: "Delivered", parts: "Groups", streams: "Streams", observed: "Target", generator: "Generator", host: "Host" };

function showSections() {
  const titled = [...document.querySelectorAll("main section > h2")];
  const nav = document.getElementById("sections");
  const list = h("ul", {}, titled.map((title) => h("li", {}, h("a", { href: `#${title.parentElement.id}` }, SHORT[title.parentElement.id] ?? title.textContent))));
  if (!nav.firstElementChild?.isEqualNode(list)) nav.replaceChildren(list);
  nav.hidden = titled.length === 0;
}

/** A section whose charts stay: they are shown again, not made again. */
function chartSection(id, title, built, ...more) {
  let element = document.getElementById(id);
  if (!element) {
    const reset = id === "time" ? h("button", { type: "button", class: "reset", on: { click: () => zoom(null) } }, "Show all of it") : null;
    element = h("section", { id, "aria-labelledby": `${id}-title` }, h("h2", { id: `${id}-title` }, title), reset, h("div", { class: "charts" }), h("div", { class: "more" }));
    slots.get(id).replaceChildren(element);
  }
  const grid = element.querySelector(":scope > .charts");
  for (const old of [...grid.children]) {
    if (built.some(([key]) => key === old.id)) continue;
    charts.get(old.id).drawing?.destroy();
    charts.delete(old.id);
    old.remove();
  }
  built.forEach(([key, drawn], at) => {
    const chart = charts.get(key) ?? new Chart(key);
    if (grid.children[at] !== chart.element) grid.insertBefore(chart.element, grid.children[at] ?? null);
    chart.show(drawn);
  });
  fill(element.querySelector(":scope > .more"), h("div", {}, more.filter(Boolean)));
  return element;
}

function showTime({ series, report, going }) {
  const built = series.length > 1 ? buildTimeCharts(series, report) : [];
  if (built.length === 0) return null;
  const merged = Math.max(...series.seconds);
  const note = merged > 1 ? `One point is up to ${span(merged)}: counts are summed, percentiles and maxima are the highest of that time.` : "One point is one second.";
  built.forEach(([, drawn]) => (drawn.now = going));
  const said = timeline.disruptions.length > 0 ? " Red is a disruption, from its mark or first drop to its window's end or last drop; what was expected is hatched." : "";
  return chartSection("time", "Over time", built, h("p", { class: "note" }, `${note} Stages are shaded, marks are dashed lines.${said} Drag over a chart to look closer, double-click or press Escape for all of it.`));
}

function showLatency({ report }) {
  if (!report) return null;
  const built = buildLatencyDistribution(report);
  const figures = latencyTable(report.latency, "latency", "Times by percentile");
  if (!built && !figures) return null;
  const note = h("p", { class: "note" }, "Response = service + lateness, message by message: response counts from when a message was due, service from when it was sent, lateness is our own delay.");
  return chartSection("latency", "Latency", built ? [["chart-distribution", built]] : [], note, figures);
}

/** JSON of the daemon. A seed beyond 2^53 stays as it is written. */
function parse(text) {
  return JSON.parse(text.replace(/"seed":(\d{16,})/g, '"seed":"$1"'));
}

function takeReport(report, going) {
  view.report = report;
  view.going = going;
  view.series = seriesOf(report?.series);
  view.until = view.series.at.at(-1) ?? 0;
  if (view.event && report && view.event.run !== report.run.id) view.event = null;
  else if (view.event && going) appendRow(view.series, view.event.now);
}

function takeSecond(event) {
  if (view.report && view.report.run.id !== event.run) [view.report, view.series] = [null, emptySeries()];
  view.event = event;
  view.going = true;
  if (!event.coder) appendRow(view.series, event.now);
  const known = view.report?.marks;
  for (const mark of event.marks ?? []) if (known && !known.some(({ at, text }) => at === mark.at && text === mark.text)) known.push(mark);
}

function follow() {
  const source = new EventSource("live");
  source.addEventListener("report", ({ data }) => {
    const { going, report } = parse(data);
    view.lost = null;
    takeReport(report, going);
    show(true);
  });
  source.addEventListener("second", ({ data }) => {
    const whole = view.lost !== null || view.report === null;
    view.lost = null;
    takeSecond(parse(data));
    show(whole);
  });
  source.addEventListener("error", () => {
    view.lost ??= `The daemon has not answered since ${new Date().toISOString().slice(11, 19)} UTC; the page goes on trying.`;
    show(false);
    if (source.readyState === EventSource.CLOSED) {
      source.close();
      setTimeout(follow, AGAIN_MS);
    }
  });
}

function start() {
  document.getElementById("main").append(...slots.values());
  const data = parse(document.getElementById("data").textContent);
  if (view.kind === "compare") showComparison(data);
  else if (view.kind === "find-max") showSought(data);
  else if (view.kind === "live") {
    show(true);
    document.addEventListener("visibilitychange", () => show(true));
    follow();
  } else {
    takeReport(data, false);
    show(true);
  }
  const version = view.report?.run?.version;
  document.getElementById("foot").append(h("p", {}, `scaled${version ? ` ${version}` : ""}. Times are in seconds, sizes in bytes; what has no value is ${NONE}. Charts by uPlot (MIT).`));
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
}

start();
