// One chart: a figure with a heading, a sentence, a drawing that keys can walk through, and its data as a table.

/** Width below which the names of stages and marks are left out of a drawing, in CSS pixels a name. */
const NAME_WIDTH = 60;
const NAME_LENGTH_MAX = 28;
const STEPS_A_PAGE = 10;
/** A run of so many seconds is looked at by the hour. */
const LONG_S = 7200;
/** Rows in which names of marks stand, so that near ones do not cover each other. */
const MARK_ROWS = 4;

/** Colours of the style sheet, as they are now; they change with the theme and on paper. */
let inks = new Map();

function ink(name) {
  if (!inks.has(name)) inks.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
  return inks.get(name);
}

/** A colour (`#rrggbb`) that lets through what is behind it. */
function faint(name, alpha) {
  return ink(name) + Math.round(alpha * 255).toString(16).padStart(2, "0");
}

/** Every chart of the page by its key. */
const charts = new Map();

/** What the charts over time share: stages, marks, disruptions, and the part of time that is looked at. */
const timeline = { stages: [], marks: [], disruptions: [], saturated: [], all: { min: 0, max: 1 }, zoom: null };

class Chart {
  constructor(key) {
    this.key = key;
    this.summary = h("p", { class: "summary", id: `${key}-summary` });
    this.keys = h("ul", { class: "keys", "aria-hidden": "true" });
    this.plot = h("div", {
      class: "plot",
      id: `${key}-plot`,
      tabindex: "0",
      role: "slider",
      "aria-orientation": "horizontal",
      "aria-valuemin": "0",
      "aria-describedby": `${key}-summary`,
      on: { keydown: (event) => this.walk(event), blur: () => this.point(null) },
    });
    this.title = h("h3", { id: `${key}-title` });
    this.details = later(`${key}-data`, "Data", () => this.table());
    this.element = h("figure", { class: "chart", id: key, "aria-labelledby": `${key}-title` },
      h("figcaption", {}, this.title, this.summary), this.keys, this.plot, this.details);
    this.drawing = null;
    this.shape = "";
    new ResizeObserver(() => this.fit()).observe(this.plot);
    charts.set(key, this);
  }

  /** Shows what was built: again, where only its data has changed. */
  show(built) {
    this.built = built;
    this.title.textContent = built.title;
    this.summary.textContent = built.summary;
    this.plot.setAttribute("aria-label", `${built.title}, drawn; arrow keys read it out`);
    this.plot.setAttribute("aria-valuemax", String(Math.max(0, built.x.length - 1)));
    const shape = JSON.stringify([built.log, built.max, built.series.map(({ label, color }) => [label, color])]);
    if (this.drawing && shape === this.shape) this.renew();
    else this.draw();
    this.shape = shape;
    this.tell(null);
  }

  get data() {
    return [this.built.x, ...this.built.series.map((line) => line.values)];
  }

  renew() {
    this.drawing.setData(this.data, !this.built.overTime);
    this.look();
  }

  /** Looks at the part of time that all charts look at. */
  look() {
    if (this.built.overTime) this.drawing.setScale("x", timeline.zoom ?? timeline.all);
  }

  draw() {
    this.drawing?.destroy();
    const keys = this.built.series.filter((line) => line.label).map((line) =>
      h("li", {}, h("i", { class: `swatch ${line.color}${line.dash ? " dashed" : ""}` }), line.label, " ", h("b", {})));
    this.keys.replaceChildren(...keys, h("li", { class: "where" }));
    this.drawing = new uPlot(this.options(), this.data, this.plot);
    this.look();
  }

  get size() {
    const style = getComputedStyle(this.plot);
    return { width: Math.max(120, Math.floor(this.plot.clientWidth)), height: parseFloat(style.getPropertyValue("--height")) || 190 };
  }

  fit() {
    const { width, height } = this.size;
    if (this.drawing && (this.drawing.width !== width || this.drawing.height !== height)) {
      this.drawing.setSize({ width, height });
    }
  }

  /** What depends on the data asks for what is shown just then: the drawing outlives it. */
  options() {
    const { built } = this;
    return {
      ...this.size,
      padding: [10, 22, 0, 0],
      legend: { show: false },
      cursor: {
        sync: built.overTime ? { key: "time", scales: ["x", null], setSeries: false, filters: { pub: isMove } } : undefined,
        drag: { x: built.overTime === true, y: false },
        y: false,
        points: { size: 7, width: 1.5 },
      },
      scales: {
        x: { time: false, distr: built.overTime ? 1 : 3, ...(built.overTime ? {} : { range: () => this.built.xRange() }) },
        y: { distr: built.log ? 3 : 1, range: (_, min, max) => this.built.range?.() ?? rangeOf(this.built, min, max) },
      },
      axes: [axis(built.xFormat ?? axisClock, built.xSplits ? () => this.built.xSplits() : null), axis(onAxis(built.axisFormat ?? built.format), built.log ? logSplits : null, true)],
      series: [{}, ...built.series.map((line) => lineOf(line))],
      bands: (built.bands ?? []).map(([upper, lower, color, alpha]) => ({ series: [upper, lower], fill: () => faint(color, alpha) })),
      hooks: {
        drawClear: built.overTime ? [shadeStages] : [],
        drawAxes: built.paint ? [(u) => this.built.paint(u)] : [],
        draw: built.overTime ? [(u) => drawMarks(u, !built.paint)] : [],
        setCursor: [(u) => this.tell(u.cursor.left >= 0 ? u.cursor.idx : null)],
        setSelect: built.overTime ? [zoomTo] : [],
        ready: [(u) => u.over.addEventListener("dblclick", () => zoom(null))],
      },
    };
  }

  /** Says beside the keys, and to who listens, what the lines are at a place. */
  tell(index) {
    const { built } = this;
    const live = index === null && built.now ? built.x.length - 1 : index;
    const items = this.keys.children;
    const there = live !== null && live !== undefined && live >= 0;
    if (items.length > 0) items[items.length - 1].textContent = index === null || index === undefined ? "" : `at ${(built.xFormat ?? clock)(built.x[index])}`;
    const values = built.series.filter((line) => line.label).map((line, at) => {
      const text = there ? optional((line.said ?? line.values)[live], built.format) : "";
      const place = items[at]?.querySelector("b");
      if (place && place.textContent !== text) place.textContent = text;
      return `${line.label} ${text}`;
    });
    if (document.activeElement === this.plot && there) {
      this.plot.setAttribute("aria-valuenow", String(live));
      this.plot.setAttribute("aria-valuetext", `${(built.xFormat ?? clock)(built.x[live])}: ${values.join(", ")}`);
    } else if (!this.plot.hasAttribute("aria-valuenow")) {
      this.plot.setAttribute("aria-valuenow", "0");
      this.plot.setAttribute("aria-valuetext", built.summary);
    }
  }

  /** Moves the cursor to a row, or away. */
  point(index) {
    if (!this.drawing || this.built.x.length === 0) return;
    if (index === null) return this.drawing.setCursor({ left: -10, top: -10 });
    const row = Math.max(0, Math.min(this.built.x.length - 1, index));
    this.drawing.setCursor({ left: this.drawing.valToPos(this.built.x[row], "x"), top: 10 });
  }

  walk(event) {
    const step = event.shiftKey ? STEPS_A_PAGE : 1;
    const [last, at] = [this.built.x.length - 1, this.drawing.cursor.left >= 0 ? this.drawing.cursor.idx : null];
    const to = {
      ArrowRight: at === null ? 0 : at + step,
      ArrowLeft: at === null ? last : at - step,
      PageDown: (at ?? 0) + STEPS_A_PAGE,
      PageUp: (at ?? last) - STEPS_A_PAGE,
      Home: 0,
      End: last,
      Escape: null,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.point(to);
    if (to === null) zoom(null);
  }

  table() {
    const { built } = this;
    if (built.table) return built.table();
    const lines = built.series.filter((line) => line.label);
    const head = [built.xName ?? "Time", ...(built.overTime ? ["Stage"] : []), ...lines.map((line) => `#${line.label}`)];
    const rows = Array.from(built.x, (x, row) => [
      (built.xFormat ?? clock)(x),
      ...(built.overTime ? [built.stage[row]] : []),
      ...lines.map((line) => optional(line.values[row], built.format)),
    ]);
    return table(built.title, head, rows);
  }
}

/** Only the pointer's way is shared between charts: what is chosen with it is shared by `zoom`. */
function isMove(type) {
  return type === "mousemove" || type === "mouseleave";
}

function rangeOf(built, min, max) {
  if (min === null || min === undefined) return built.log ? [1e-4, 1] : [0, built.max ?? 1];
  if (built.log) return [niceBelow(min), niceAbove(Math.max(max, niceBelow(min) * 4))];
  const top = built.max ? Math.max(built.max, max) : max * 1.08;
  return [0, top > 0 ? top : 1];
}

/** Moments beside an axis: of a long run without seconds. */
function axisClock(value) {
  return timeline.all.max - timeline.all.min >= LONG_S && value % 60 === 0 ? `${span(value)}` : clock(value);
}

/** The nearest of 1, 2, 5 × 10^n at or below a value. */
function niceBelow(value) {
  const power = 10 ** Math.floor(Math.log10(value) + 1e-9);
  return power * [5, 2, 1].find((step) => value >= step * power * (1 - 1e-9));
}

/** And at or above it. */
function niceAbove(value) {
  const power = 10 ** Math.floor(Math.log10(value) + 1e-9);
  return power * [1, 2, 5, 10].find((step) => value <= step * power * (1 + 1e-9));
}

/** Where a log axis has lines: at 1, 2, 5 of each decade where there are few, else at 1. */
function logSplits(u, _, min, max) {
  const steps = Math.log10(max / min) < 2.2 ? [1, 2, 5] : [1];
  const splits = [];
  for (let power = Math.floor(Math.log10(min)); power <= Math.log10(max); power++) {
    for (const step of steps) {
      const at = Number(`${step}e${power}`);
      if (at >= min * 0.999 && at <= max * 1.001) splits.push(at);
    }
  }
  return splits;
}

function axis(format, splits, vertical) {
  const stroke = () => ink("muted");
  const line = { stroke: () => ink("grid"), width: 1 };
  return {
    stroke,
    font: "11px system-ui, sans-serif",
    grid: line,
    ticks: { ...line, size: 4 },
    gap: 4,
    size: vertical ? (_, values) => 14 + 6.4 * Math.max(4, ...(values ?? []).map((text) => text?.length ?? 0)) : 30,
    space: vertical ? 34 : 70,
    values: (_, at) => at.map((value) => (value === null || value === undefined ? "" : format(value))),
    ...(splits ? { splits, filter: (_, at) => at } : {}),
    ...(vertical ? {} : { incrs: [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400] }),
  };
}

function lineOf(line) {
  const path = line.bars ? uPlot.paths.bars({ size: [0.9, 40], align: -1 }) : line.step ? uPlot.paths.stepped({ align: -1 }) : undefined;
  return {
    label: line.label,
    stroke: line.hidden ? undefined : () => ink(line.color),
    fill: line.fill ? () => faint(line.color, line.fill) : undefined,
    width: line.width ?? 1.5,
    dash: line.dash,
    paths: path,
    spanGaps: line.spanGaps ?? false,
    points: { show: () => false, filter: line.hidden || line.bars ? () => null : isolated, size: 4 },
  };
}

/** Rows whose value has no neighbours: they are points, or they would not be seen. */
function isolated(u, index) {
  const values = u.data[index];
  const empty = (row) => values[row] === null || values[row] === undefined;
  const rows = [];
  for (let row = 0; row < values.length; row++) if (!empty(row) && empty(row - 1) && empty(row + 1)) rows.push(row);
  return rows.length > 0 ? rows : null;
}

function zoomTo(u) {
  if (u.select.width < 3) return;
  const [min, max] = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
  u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  zoom({ min, max });
}

/** Looks at a part of time in every chart, or at all of it. */
function zoom(part) {
  timeline.zoom = part;
  document.documentElement.toggleAttribute("data-zoomed", part !== null);
  for (const chart of charts.values()) if (chart.drawing) chart.look();
}

/** Behind the lines: what is no stage is grey, stages take turns. */
function shadeStages(u) {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  timeline.stages.forEach((stage, at) => {
    const [left, right] = [u.valToPos(stage.from, "x", true), u.valToPos(stage.to, "x", true)];
    ctx.fillStyle = stage.steady ? faint("stage", at % 2 ? 0.1 : 0.05) : faint("muted", 0.14);
    ctx.fillRect(left, bbox.top, right - left, bbox.height);
  });
  for (const { from, to, expected } of timeline.disruptions) {
    const [left, right] = [u.valToPos(from, "x", true), u.valToPos(to, "x", true)];
    if (expected) {
      hatch(ctx, left, right, bbox);
      continue;
    }
    ctx.fillStyle = faint("red", 0.18);
    ctx.fillRect(left, bbox.top, Math.max(2 * uPlot.pxRatio, right - left), bbox.height);
  }
  ctx.restore();
}

/** Slanting lines from `left` to `right`, which colours behind and before them let through. */
function hatch(ctx, left, right, bbox) {
  const step = 7 * uPlot.pxRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, bbox.top, right - left, bbox.height);
  ctx.clip();
  ctx.strokeStyle = faint("mark", 0.35);
  ctx.lineWidth = uPlot.pxRatio;
  ctx.beginPath();
  for (let at = left - bbox.height; at < right; at += step) {
    ctx.moveTo(at, bbox.top + bbox.height);
    ctx.lineTo(at + bbox.height, bbox.top);
  }
  ctx.stroke();
  ctx.restore();
}

/** Over the lines: names of stages, marks, and where the generator was the limit. */
function drawMarks(u, named) {
  const { ctx, bbox } = u;
  const ratio = uPlot.pxRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.font = `${10 * ratio}px system-ui, sans-serif`;
  ctx.textBaseline = "top";
  ctx.textAlign = "left";
  ctx.fillStyle = ink("muted");
  for (const stage of named ? timeline.stages : []) {
    const left = Math.max(bbox.left, u.valToPos(stage.from, "x", true));
    const room = Math.min(bbox.left + bbox.width, u.valToPos(stage.to, "x", true)) - left;
    if (room > NAME_WIDTH * ratio) ctx.fillText(shortened(stage.name), left + 4 * ratio, bbox.top + 3 * ratio, room - 8 * ratio);
  }
  ctx.strokeStyle = ctx.fillStyle = ink("mark");
  ctx.lineWidth = ratio;
  ctx.setLineDash([4 * ratio, 3 * ratio]);
  const ends = new Array(MARK_ROWS).fill(0);
  for (const mark of timeline.marks) {
    const left = Math.round(u.valToPos(mark.at, "x", true)) + 0.5;
    ctx.beginPath();
    ctx.moveTo(left, bbox.top);
    ctx.lineTo(left, bbox.top + bbox.height);
    ctx.stroke();
    const text = shortened(mark.text);
    const width = ctx.measureText(text).width + 8 * ratio;
    const from = left + width > bbox.left + bbox.width ? left - width : left;
    const row = ends.findIndex((end) => end <= from);
    if (row < 0) continue; // too many at one place: the section on marks has them all
    ends[row] = from + width;
    ctx.fillText(text, from + 4 * ratio, bbox.top + (16 + 12 * row) * ratio);
  }
  ctx.setLineDash([]);
  ctx.fillStyle = ink("bad");
  for (const [from, to] of timeline.saturated) {
    const left = u.valToPos(from, "x", true);
    ctx.fillRect(left, bbox.top + bbox.height - 3 * ratio, Math.max(ratio, u.valToPos(to, "x", true) - left), 3 * ratio);
  }
  ctx.restore();
}

function shortened(text) {
  return text.length > NAME_LENGTH_MAX ? `${text.slice(0, NAME_LENGTH_MAX - 1)}…` : text;
}

/** Draws everything again: colours or sizes have changed. */
function redrawAll() {
  inks = new Map();
  for (const chart of charts.values()) {
    chart.fit();
    chart.drawing?.redraw(false);
  }
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
for (const [event, on] of [["beforeprint", true], ["afterprint", false]]) {
  addEventListener(event, () => {
    document.documentElement.toggleAttribute("data-print", on);
    redrawAll();
  });
}
