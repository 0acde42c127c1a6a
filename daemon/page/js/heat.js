// A heat map over time: how many samples a second lay where. Rows are those of scale_api::heat.

/** Rows; row 0 is below the first edge. */
const HEAT_ROWS = 41;
const HEAT_FIRST_EDGE = 1e-4;
/** The faintest that a sample may be, so that a single one is seen. */
const HEAT_FAINTEST = 0.12;
const HEAT_SHADES = 64;

/** Lower edge of a row, in seconds; row 0 is drawn as high as the others. */
function heatEdge(row) {
  return HEAT_FIRST_EDGE * 2 ** ((row - 1) / 2);
}

/** The rows that have samples, the most a second that one has, and all samples. */
function heatBounds(series, heats) {
  const bounds = { low: HEAT_ROWS, high: -1, most: 0, total: 0 };
  heats.forEach((heat, at) => {
    if (heat.length < 2) return;
    bounds.low = Math.min(bounds.low, heat[0]);
    bounds.high = Math.max(bounds.high, heat[0] + heat.length - 2);
    for (let index = 1; index < heat.length; index++) {
      bounds.total += heat[index];
      bounds.most = Math.max(bounds.most, heat[index] / (series.seconds[at] || 1));
    }
  });
  return bounds.high < 0 ? null : bounds;
}

/** Paints cells of one width a row of the series; where several fall on one pixel, their samples are added up. */
function paintHeat(u, series, heats, most) {
  const { ctx, bbox } = u;
  const shades = heatShades();
  const edge = Array.from({ length: HEAT_ROWS + 1 }, (_, row) => Math.round(u.valToPos(heatEdge(row), "y", true)));
  const scale = Math.log1p(most);
  const cells = { left: 0, right: 0, seconds: 0, counts: new Array(HEAT_ROWS).fill(0) };
  const flush = () => {
    cells.counts.forEach((count, row) => {
      if (count === 0) return;
      const strength = HEAT_FAINTEST + (1 - HEAT_FAINTEST) * Math.min(1, Math.log1p(count / cells.seconds) / scale);
      ctx.fillStyle = shades[Math.round(strength * (HEAT_SHADES - 1))];
      ctx.fillRect(cells.left, edge[row + 1], cells.right - cells.left, edge[row] - edge[row + 1]);
    });
    cells.counts.fill(0);
    cells.seconds = 0;
  };
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  heats.forEach((heat, at) => {
    if (heat.length < 2) return;
    const length = series.seconds[at] || 1;
    const left = Math.round(u.valToPos(series.at[at] - length, "x", true));
    const right = Math.max(left + 1, Math.round(u.valToPos(series.at[at], "x", true)));
    if (right < bbox.left || left > bbox.left + bbox.width) return;
    if (cells.seconds > 0 && left !== cells.left) flush();
    cells.left = left;
    cells.right = right;
    cells.seconds += length;
    for (let index = 1; index < heat.length; index++) cells.counts[heat[0] + index - 1] += heat[index];
  });
  if (cells.seconds > 0) flush();
  ctx.restore();
}

/** From the faintest to the strongest, between three colours of the style sheet. */
function heatShades() {
  const stops = ["heat-low", "heat-mid", "heat-high"].map((name) => {
    const hex = ink(name);
    return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  });
  return Array.from({ length: HEAT_SHADES }, (_, shade) => {
    const place = (shade / (HEAT_SHADES - 1)) * (stops.length - 1);
    const from = Math.min(stops.length - 2, Math.floor(place));
    const mixed = stops[from].map((part, at) => Math.round(part + (stops[from + 1][at] - part) * (place - from)));
    return `rgb(${mixed.join(" ")})`;
  });
}

/** The heat map of a figure, or nothing where it has no samples. */
function buildHeat(series, figureName, title) {
  const heats = series[`${figureName}_heat`];
  const bounds = heatBounds(series, heats);
  if (!bounds) return null;
  const range = [heatEdge(bounds.low), heatEdge(bounds.high + 1)];
  const row = (index) => {
    if (index === 0) return `below ${seconds(HEAT_FIRST_EDGE)}`;
    return index === HEAT_ROWS - 1 ? `above ${seconds(heatEdge(index))}` : `${seconds(heatEdge(index))} to ${seconds(heatEdge(index + 1))}`;
  };
  const totals = new Array(HEAT_ROWS).fill(0);
  for (const heat of heats) for (let index = 1; index < heat.length; index++) totals[heat[0] + index - 1] += heat[index];
  const fullest = totals.indexOf(Math.max(...totals));
  return {
    title,
    summary: `${many(bounds.total, "sample")}; most of them ${row(fullest)}, the highest ${row(bounds.high)}. The stronger the colour, the more a second.`,
    overTime: true,
    x: series.at,
    stage: series.stage,
    format: (value) => thousands(value),
    axisFormat: seconds,
    log: true,
    range: () => range,
    // The lines are there for the cursor alone; what is seen is painted.
    series: [{ label: "samples", color: "heat-mid", hidden: true, values: heats.map(() => null), said: heats.map((heat) => sum(heat.slice(1))) }],
    paint: (u) => paintHeat(u, series, heats, bounds.most),
    table: () =>
      table(title, ["Samples of the whole run", "#Count"], totals.flatMap((count, index) => (count > 0 ? [[row(index), thousands(count)]] : []))),
  };
}
