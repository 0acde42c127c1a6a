// The distribution by percentile: response, service and lateness beside each other, the tail drawn out.

const DISTRIBUTIONS = [["response", "blue"], ["service", "orange"], ["lateness", "purple"]];
const QUANTILE_TICKS = [1, 2, 4, 10, 100, 1000, 10000, 100000, 1e6, 1e7, 1e8, 1e9];

/** A quantile's place on the axis: how many samples there are to one beyond it. */
function rarity(quantile) {
  return 1 / Math.max(1e-12, 1 - quantile);
}

/** The percentile at a place: `99.9 %`. */
function percentileName(place) {
  const percentile = 100 - 100 / place;
  return place <= 1 ? "0 %" : `${Number(percentile.toFixed(Math.max(0, Math.ceil(Math.log10(place)) - 1)))} %`;
}

/** A curve as `[place, seconds]`. What lies at quantile 1 is drawn at the place of the last sample. */
function placesOf(curve, count) {
  const last = Math.max(count || 0, 2, ...curve.filter(([quantile]) => quantile < 1).map(([quantile]) => rarity(quantile)));
  return curve.map(([quantile, value]) => [quantile < 1 ? rarity(quantile) : last, Math.max(value, 1e-6)]);
}

/** The value of a curve at each of `places`: that of the first step that reaches it. */
function along(curve, places) {
  let step = 0;
  return places.map((place) => {
    while (step < curve.length && curve[step][0] < place) step += 1;
    return step < curve.length ? curve[step][1] : null;
  });
}

/** `curves`: `[label, colour, [[quantile, seconds], …], count, dash]`. */
function buildDistribution(curves, title, summary) {
  const placed = curves.filter(([, , curve]) => curve?.length > 0).map(([label, color, curve, count, dash]) => ({ label, color, dash, curve: placesOf(curve, count) }));
  if (placed.length === 0) return null;
  const places = [...new Set(placed.flatMap(({ curve }) => curve.map(([place]) => place)))].sort((one, other) => one - other);
  const last = places.at(-1);
  return {
    title,
    summary,
    x: places,
    xFormat: percentileName,
    xName: "Percentile",
    xRange: () => [1, Math.max(10, last)],
    xSplits: () => QUANTILE_TICKS.filter((tick) => tick <= Math.max(10, last)),
    format: seconds,
    log: true,
    series: placed.map(({ label, color, dash, curve }) => ({ label, color, dash, values: along(curve, places), width: 2 })),
  };
}

/** The report's own three. */
function buildLatencyDistribution(report) {
  const there = DISTRIBUTIONS.filter(([name]) => report.latency?.[name]);
  const curves = there.map(([name, color]) => [name, color, report.percentiles?.[name], report.latency[name].count]);
  const said = there.map(([name]) => {
    const { p50, p99, max } = report.latency[name];
    return `${name} p50 ${seconds(p50)}, p99 ${seconds(p99)}, max ${seconds(max)}`;
  });
  return buildDistribution(curves, "Distribution by percentile", `${capital(said.join("; "))}.`);
}
