// Adds up the intervals of a histogram log by tag; a JSON object of counts, maxima and percentiles. Of a percentile
// there are two values, its own and that of one sample more: where it falls between two, both are right.

const { readFileSync } = require("fs");
const { HistogramLogReader, build } = require("hdr-histogram-js");

const PERCENTILES = { p50: 50, p90: 90, p99: 99, p999: 99.9 };
const log = new HistogramLogReader(readFileSync(process.argv[2], "utf8"));
const sums = {};
let intervals = 0;
for (let interval; (interval = log.nextIntervalHistogram()); intervals += 1) {
  const tag = interval.tag === "NO TAG" ? "" : interval.tag;
  sums[tag] ??= build({ lowestDiscernibleValue: 1, highestTrackableValue: 3.6e9, numberOfSignificantValueDigits: 3, bitBucketSize: 64 });
  sums[tag].add(interval);
}
const figures = (sum) => {
  const at = (percentile) => [percentile, percentile + 100 / sum.totalCount].map((p) => sum.getValueAtPercentile(p));
  const percentiles = Object.entries(PERCENTILES).map(([name, percentile]) => [name, at(percentile)]);
  return { count: sum.totalCount, max: sum.maxValue, ...Object.fromEntries(percentiles) };
};
const found = Object.fromEntries(Object.entries(sums).map(([tag, sum]) => [tag, figures(sum)]));
console.log(JSON.stringify({ intervals, found }));
