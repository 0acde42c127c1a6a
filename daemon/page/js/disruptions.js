// Disruptions: what a run's streams lost at once, who was hit, how they came back, and what that was to the target.

/** How a disruption's streams are told apart, in the order in which that is shown. */
const DROPPED_BY = [["by_class", "class"], ["by_replica", "replica"], ["by_address", "address"], ["by_group", "group"]];

/** All of them, oldest first: those of the report, and the newest as the last second has them. */
function disruptionsOf({ report, event, going }) {
  const kept = report?.disruptions ?? [];
  const now = (going ? event?.disruptions : null) ?? [];
  return now.length > 0 ? [...kept.filter(({ at }) => at < now[0].at), ...now] : kept;
}

/** Unix time of what disruptions are counted from: of a scenario its traffic's beginning. */
function zeroOf({ report, event }) {
  return report?.run?.zero_at ?? event?.zero_at ?? report?.run?.started_at ?? 0;
}

/** When one was: of the day where the run's beginning is known, else of the run. */
function disruptionTime({ at, marked_at }, zeroAt) {
  const moment = marked_at ?? at;
  return zeroAt > 0 ? new Date((zeroAt + moment) * 1000).toISOString().slice(11, 19) : clock(moment);
}

function disruptionName(disruption, zeroAt) {
  const time = disruptionTime(disruption, zeroAt);
  return disruption.mark === null || disruption.mark === undefined ? `${time} unmarked` : `${time} "${disruption.mark}"`;
}

/** All of one in a sentence, word for word as `scalectl report` has it (ctl/api/src/disruption.rs). */
function disruptionSentence(disruption, zeroAt, isOver) {
  const { streams, streams_dropped: dropped, share, users_affected: users, recover, lost_unknown } = disruption;
  const text = `${disruptionName(disruption, zeroAt)}: ${thousands(dropped)} of ${thousands(streams)} dropped`;
  if (dropped === 0) return text;
  const known = (value) => value !== null && value !== undefined;
  const whom = [known(share) ? `${fixed(share * 100, 1)} %` : null, known(users) ? many(users, "user") : null].filter(Boolean);
  const back = `; ${thousands(disruption.reconnected)} back${recover ? `, p99 ${shortSeconds(recover.p99)}` : ""}`;
  const away = `; ${thousands(disruption.never_back)} ${isOver ? "never" : "away"}`;
  const lost = `; ${lost_unknown > 0 ? "at least " : ""}${shortBytes(disruption.bytes_lost)} lost`;
  return `${text}${whom.length ? ` (${whom.join(", ")})` : ""}${back}${away}${lost}`;
}

function shortSeconds(value) {
  return value < 1 ? `${fixed(value * 1e3, 0)} ms` : `${fixed(value, 1)} s`;
}

function shortBytes(value) {
  return value < 10_000_000 ? bytes(value) : `${fixed(value / 1e6, 1)} MB`;
}

/** A server's version before and after. */
function versionsOf({ version_before: before, version_after: after }) {
  if (!before && !after) return "";
  if (before === after) return before;
  return `${before ?? "unnamed"} → ${after ?? "unnamed"}`;
}

function renderDisruptions(view) {
  const all = disruptionsOf(view);
  if (all.length === 0) return null;
  const zeroAt = zeroOf(view);
  const name = (disruption) => disruptionName(disruption, zeroAt);
  const isOver = !view.going;
  const sentences = all.map((disruption) => h("li", { class: tone(disruption) }, disruptionSentence(disruption, zeroAt, isOver)));
  return section("disruptions", "Disruptions",
    h("ol", { class: "disruptions" }, sentences),
    disruptionTable(all, name, isOver),
    stormTable(all, name),
    wholeTable(all, name));
}

/** Nothing dropped is good; whoever has not come back is not. */
function tone({ streams_dropped: dropped, never_back: never }) {
  if (dropped === 0) return "good";
  return never > 0 ? "bad" : "warn";
}

function disruptionTable(all, name, isOver) {
  const path = (at, figureName) => `disruptions.${at}.${figureName}`;
  const value = (disruption, figureName) => figureName.split(".").reduce((part, word) => part?.[word], disruption);
  // A figure that no disruption has makes no column.
  const of = (figureName, show) => {
    const there = all.some((disruption) => (value(disruption, figureName) ?? null) !== null);
    return (disruption, at) => (there ? figure(path(at, figureName), value(disruption, figureName), show) : "");
  };
  const columns = [
    ["#Streams", of("streams", thousands)],
    ["#Dropped", of("streams_dropped", thousands)],
    ["#Share", of("share", percent)],
    ["#Users hit", of("users_affected", thousands)],
    ["#Of users", of("users", thousands)],
    ["#Back", of("reconnected", thousands)],
    ["#After p50", of("recover.p50", seconds)],
    ["#p99", of("recover.p99", seconds)],
    ["#max", of("recover.max", seconds)],
    [isOver ? "#Never back" : "#Away", of("never_back", thousands)],
    ["#Same session", of("same_session", thousands)],
    ["#Lost", (disruption, at) => [disruption.lost_unknown > 0 ? "at least " : "", figure(path(at, "bytes_lost"), disruption.bytes_lost, bytes)]],
    ["#Came twice", of("bytes_repeated", bytes)],
    ["Server's version", versionsOf],
    ["#Delivered", of("delivered_ratio", percent)],
    ["#Response p99", of("response_p99", seconds)],
  ];
  const rows = all.map((disruption, at) => [name(disruption), ...columns.map(([, show]) => show(disruption, at))]);
  const expected = all.some((disruption) => disruption.expected !== null && disruption.expected !== undefined);
  const note = expected ? "Delivered and response are of the window that was expected; the run's own figures leave it out." : null;
  return table("Who was hit, and how they came back.", ["Disruption", ...columns.map(([head]) => head)], rows, note);
}

function stormTable(all, name) {
  const rows = all.flatMap((disruption, at) => {
    const { storm } = disruption;
    if (!storm || storm.offered === 0) return [];
    const of = (figureName) => figure(`disruptions.${at}.storm.${figureName}`, storm[figureName], thousands);
    return [[name(disruption), of("offered"), of("answered"), of("refused"), of("offered_per_second_max"), of("answered_per_second_max")]];
  });
  return table("What coming back was to the target", ["Disruption", "#Attempts", "#Opened", "#Failed", "#Most attempts a second", "#Most opened a second"], rows);
}

/** Whose the dropped streams were. What a list leaves out is one row of others. */
function wholeTable(all, name) {
  const rows = [];
  for (const disruption of all) {
    for (const [key, word] of DROPPED_BY) {
      const counts = Object.entries(disruption[key] ?? {}).sort(([, one], [, other]) => other - one);
      const rest = disruption.streams_dropped - sum(counts.map(([, count]) => count));
      if (counts.length > 0 && rest > 0) counts.push(["others", rest]);
      for (const [label, count] of counts) {
        rows.push([name(disruption), word, label === "others" ? label : h("code", {}, label), thousands(count), percent(count / disruption.streams_dropped)]);
      }
    }
  }
  if (rows.length === 0) return null;
  return later("disruptions-whose", "Whose the dropped streams were", () =>
    table("Streams dropped, by class, replica, address and group", ["Disruption", "By", "Name", "#Streams", "#Of the dropped"], rows));
}

/** How bad the worst was, for the figures at the top. */
function disruptionTile(view) {
  const all = disruptionsOf(view);
  if (all.length === 0) return null;
  const worst = all.reduce((one, other) => ((other.share ?? 0) > (one.share ?? 0) ? other : one));
  const away = sum(all.map((disruption) => disruption.never_back));
  return tile("Disruptions", thousands(all.length),
    `${worst.share === null || worst.share === undefined ? thousands(worst.streams_dropped) : `${fixed(worst.share * 100, 1)} %`} dropped${all.length > 1 ? " in the worst" : ""}, ${thousands(away)} ${view.going ? "away" : "never back"}`);
}

/** What charts over time shade: from the first drop to the last, and what was expected. `end`: of what is drawn. */
function disruptionSpans(all, end) {
  const spans = [];
  for (const { at, until, marked_at, expected, streams_dropped: dropped } of all) {
    if (expected !== null && expected !== undefined) spans.push({ from: marked_at ?? at, to: (marked_at ?? at) + expected, expected: true });
    if (dropped > 0) spans.push({ from: at, to: Math.max(at, until ?? end), expected: false });
  }
  return spans;
}

/** Moments that charts name though nobody marked them. */
function unmarked(all) {
  const is = ({ mark }) => mark === null || mark === undefined;
  return all.filter(is).map(({ at, streams_dropped: dropped }) => ({ at, text: `${thousands(dropped)} dropped` }));
}
