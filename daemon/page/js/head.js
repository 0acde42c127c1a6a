// The top of the page: what it came to, and the figures that people ask for first.

const VERDICTS = {
  passed: ["✓", "Passed", "good"],
  failed: ["✕", "Failed", "bad"],
  incomplete: ["!", "Incomplete", "warn"],
  aborted: ["■", "Aborted", "quiet"],
};
/** Warnings that are about what a reader may not overlook stand at the top, in a banner. */
const LIMIT_SAID =
  "The generator or its host was the limit: the load was not what was asked for, and response times include its own lateness.";

/** The band: one word to be read from afar. */
function renderHead({ kind, report, event, going, lost }) {
  const run = report?.run;
  const name = run?.name ?? event?.name;
  const id = run?.id ?? event?.run ?? "";
  const [glyph, word, tone] = lost ? ["?", "No word", "warn"] : going ? ["▶", stateName(event), "going"] : VERDICTS[report?.verdict?.outcome] ?? ["·", "No run", "quiet"];
  const reasons = lost ? [lost] : going ? [] : report?.verdict?.reasons ?? [];
  const code = !going && !lost && report ? `exit code ${report.verdict.exit_code}` : null;
  document.title = `${word}: ${name ?? id}`.replace(/: $/, "");
  const elapsed = event && going ? `${span(event.elapsed)} gone${event.remaining === null || event.remaining === undefined ? "" : `, ${span(event.remaining)} left`}` : null;
  const lasted = run?.ended_at > run?.started_at ? `${span(run.ended_at - run.started_at)} in all` : null;
  return h("header", { id: "head", class: `verdict ${tone}` },
    h("div", { class: "band" },
      h("h1", {},
        h("span", { class: "word", role: kind === "live" ? "status" : null }, h("span", { class: "glyph", "aria-hidden": "true" }, glyph), h("span", {}, word)),
        name || id ? h("span", { class: "name" }, name ?? id) : null),
      h("div", { class: "said" },
        reasons.length ? h("ul", { class: "reasons" }, reasons.map((reason) => h("li", {}, reason))) : null,
        h("p", { class: "when" }, [id ? `run ${id}` : null, run ? moment(run.started_at) : null, run ? startedBy(run, "by ") : null, elapsed ?? lasted, code].filter(Boolean).join(" · ")))));
}

/** Who asked for a run: a user's name, or a number. */
function startedBy(run, before = "") {
  const by = run.started_by;
  return by ? `${before}${by.user ?? `uid ${by.uid}`}` : null;
}

function stateName(event) {
  const state = event?.coder?.phase || event?.state || "starting";
  return state.charAt(0).toUpperCase() + state.slice(1);
}

function renderBanners({ report, event, going }) {
  const saturated = going ? event?.saturated : report?.generator?.saturated;
  const groups = report?.spec?.group ?? [];
  const said = [];
  if (saturated) said.push(LIMIT_SAID);
  for (const group of groups) {
    if (group.insecure) said.push(`Group ${group.name}: certificates were not verified (--insecure).`);
    if (group.insecure_host_keys) {
      said.push(`Group ${group.name}: host keys were not verified (${group.typed ? "as in Coder's own clients" : "--insecure-host-keys"}).`);
    }
  }
  const warnings = [...new Set([...((going ? event?.warnings : null) ?? []), ...(report?.warnings ?? []), ...(report?.coder?.warnings ?? [])])];
  if (said.length + warnings.length === 0) return null;
  return h("section", { id: "warnings", "aria-label": "Warnings" },
    said.map((text) => h("p", { class: "banner" }, text)),
    warnings.length ? h("ul", { class: "warnings" }, warnings.map((text) => h("li", {}, text))) : null);
}

function tile(label, value, ...below) {
  return h("div", { class: "tile" }, h("dt", {}, label), h("dd", {}, value, h("span", { class: "below" }, below)));
}

/** Whether the report is of streams, and not of a flow that only makes things. */
function hasTraffic(report) {
  return Boolean(report?.load?.streams_requested) || !report?.coder;
}

function renderTiles(view) {
  const { report, event, going } = view;
  if (going && event && !event.coder && Object.keys(event.streams ?? {}).length) return section("summary", "Now", h("dl", { class: "tiles" }, tilesNow(event), disruptionTile(view)));
  if (going && event?.coder) return section("summary", "Now", h("dl", { class: "tiles" }, tilesOfFlowNow(event)));
  if (!report) return null;
  const tiles = hasTraffic(report) ? tilesOfRun(report) : [];
  return section("summary", "In short", h("dl", { class: "tiles" }, tiles, disruptionTile(view), report.coder ? tilesOfFlow(report.coder) : []));
}

function tilesOfRun({ load, latency, generator }) {
  const response = latency.response;
  const busiest = generator.workers.length ? Math.max(...generator.workers.map((worker) => worker.busy_max)) : null;
  return [
    tile("Delivered", figure("load.delivered_ratio", load.delivered_ratio, percent), figure("load.ticks_sent", load.ticks_sent, thousands), " of ", figure("load.ticks_due", load.ticks_due, thousands), " ticks"),
    load.echoed_ratio === null ? null : tile("Echoed", figure("load.echoed_ratio", load.echoed_ratio, percent), figure("load.messages_unanswered", load.messages_unanswered, thousands), " unanswered"),
    tile("Streams opened", figure("load.streams_opened", load.streams_opened, thousands), "of ", figure("load.streams_requested", load.streams_requested, thousands), ", ", figure("load.streams_open_at_end", load.streams_open_at_end, thousands), " open at the end"),
    response ? tile("Response p99", figure("latency.response.p99", response.p99, seconds), "p50 ", figure("latency.response.p50", response.p50, seconds), ", max ", figure("latency.response.max", response.max, seconds)) : null,
    tile("Sent", figure("load.rate_sent", load.rate_sent, rate), "offered ", figure("load.rate_offered", load.rate_offered, rate)),
    latency.lateness ? tile("Lateness p99", figure("latency.lateness.p99", latency.lateness.p99, seconds), "max ", figure("latency.lateness.max", latency.lateness.max, seconds)) : null,
    tile("Busiest core", optional(busiest, roughly), generator.saturated ? "the limit" : "in its busiest second"),
  ];
}

function tilesNow(event) {
  const now = event.now;
  const all = sum(Object.values(event.streams));
  const missed = sum(Object.values(event.ticks_missed));
  return [
    tile("Streams open", thousands(event.streams.open ?? 0), `of ${thousands(all)}`),
    tile("Sent", rate(now.rate_sent), `offered ${rate(now.rate_offered)}, received ${rate(now.rate_received)}`),
    tile("Response p99", optional(now.response_p99, seconds), `p50 ${optional(now.response_p50, seconds)}, max ${optional(now.response_max, seconds)}`),
    tile("Lateness p99", optional(now.lateness_p99, seconds), `p50 ${optional(now.lateness_p50, seconds)}`),
    tile("Ticks missed", thousands(missed), "so far"),
    tile("Busiest core", roughly(now.busy_max), event.saturated ? "the limit" : "this second"),
  ];
}

function tilesOfFlowNow({ coder }) {
  const of = (state) => coder.states[state] ?? 0;
  const others = Object.entries(coder.states).filter(([state, count]) => count > 0 && !["ready", "deleted", "failed"].includes(state));
  return [
    tile("Done", thousands(of("ready") + of("deleted") + of("failed")), `of ${thousands(coder.total)}${coder.rate ? `, ${fixed(coder.rate, 1)}/s` : ""}`),
    tile("Failed", thousands(of("failed")), Object.entries(coder.failed).map(([name, count]) => `${thousands(count)} ${name}`).join(", ")),
    tile("Under way", thousands(sum(others.map(([, count]) => count))), others.map(([state, count]) => `${thousands(count)} ${state.replace("_", " ")}`).join(", ")),
    coder.waits_for ? tile("Waits for", h("span", { class: "words" }, coder.waits_for)) : null,
  ];
}

function tilesOfFlow(coder) {
  if (!coder.of || coder.of === "things") {
    return coder.cleanup ? [tile("Deleted", figure("coder.cleanup.workspaces", coder.cleanup.workspaces, thousands), "workspaces, ", figure("coder.cleanup.users", coder.cleanup.users, thousands), " users"), tile("Left", figure("coder.cleanup.left", coder.cleanup.left, thousands))] : [];
  }
  const of = coder.of.charAt(0).toUpperCase() + coder.of.slice(1);
  return [tile(of, figure("coder.succeeded", coder.succeeded, thousands), "of ", figure("coder.requested", coder.requested, thousands), " succeeded, ", figure("coder.failed", coder.failed, thousands), " failed")];
}
