// What a report has as tables: one function a section.

/** The figures of time, in the order in which a stream has them. */
const LATENCIES = ["connect", "tls", "upgrade", "banner", "key_exchange", "authentication", "channel", "first_byte", "lateness", "service", "response", "reconnect"];
const PERCENTILES = ["min", "p50", "p90", "p99", "p999", "p9999", "max"];
const PERCENTILE_NAMES = { p999: "p99.9", p9999: "p99.99" };

function renderThresholds({ report, event, going }) {
  const thresholds = (going ? event?.thresholds : null) ?? report?.verdict?.thresholds ?? [];
  const rows = thresholds.map(({ expression, value, ok, at, aborted, why }) => {
    const waiting = going && !ok && (value === null || value === undefined);
    const [tone, word] = waiting ? ["quiet", "nothing to judge yet"] : ok ? ["good", "met"] : ["bad", aborted ? "NOT MET, ended the run" : "NOT MET"];
    return [
      h("code", {}, expression),
      h("span", { class: `state ${tone}` }, word),
      h("data", { value: value ?? "" }, optional(value, (number) => thresholdValue(expression, number))),
      why ?? (at === null || at === undefined ? "" : `the worst window, until ${clock(at)}`),
    ];
  });
  return section("thresholds", "Thresholds", table("Thresholds of this run", ["Threshold", "State", "#Value", "Of"], rows));
}

/** A threshold's value in the unit of its figure. */
function thresholdValue(expression, value) {
  const name = expression.split(/[<>=]/)[0].trim().split(".");
  const [figureName, stat = ""] = name.slice(-2);
  if (name.at(-3) === "observe" || name[0] === "observe" || stat === "count") return plain(value);
  if (stat === "bytes_lost") return bytes(value);
  if (figureName === "recover" || LATENCIES.includes(figureName)) return seconds(value);
  if (stat.endsWith("_ratio") || ["rate", "share", "users_share", "busy_max"].includes(stat)) return percent(value);
  if (/^(stream_)?rate_/.test(stat)) return rate(value);
  return plain(value);
}

/** What was asked for beside what was delivered. */
function renderDelivered({ report, going, until }) {
  if (!report || !hasTraffic(report)) return null;
  const { load, total } = report;
  const of = (name, show) => figure(`load.${name}`, load[name], show);
  const open = load.streams_requested > 0 ? load.streams_opened / load.streams_requested : null;
  const rows = [
    ["Streams", of("streams_requested", thousands), [of("streams_opened", thousands), " opened, ", of("streams_open_at_end", thousands), " open at the end", load.replaced > 0 ? [", ", of("replaced", thousands), " replaced"] : null], optional(open, percent)],
    ["Ticks", of("ticks_due", thousands), [of("ticks_sent", thousands), " sent"], of("delivered_ratio", percent)],
    ["Messages", of("messages_sent", thousands), [of("messages_echoed", thousands), " echoed, ", of("messages_unanswered", thousands), " unanswered"], of("echoed_ratio", percent)],
    ["Payload rate", of("rate_offered", rate), [of("rate_sent", rate), " sent, ", of("rate_received", rate), " received"], optional(load.rate_offered > 0 ? load.rate_sent / load.rate_offered : null, percent)],
  ];
  const missed = Object.entries(load.ticks_missed).map(([cause, count]) => [cause, figure(`load.ticks_missed.${cause}`, count, thousands), MISSED[cause] ?? ""]);
  const counted = (name, show) => figure(`total.${name}`, total[name], show);
  const totals = [
    ["Messages", counted("messages_sent", thousands), counted("messages_echoed", thousands)],
    ["Payload", counted("payload_bytes_sent", bytes), counted("payload_bytes_received", bytes)],
    ["On the wire", counted("wire_bytes_sent", bytes), counted("wire_bytes_received", bytes)],
  ];
  const notes = [];
  if (load.verify_failures + load.unexpected_bytes > 0) notes.push(`${many(load.verify_failures, "message")} differed from what was sent, and ${thousands(load.unexpected_bytes)} bytes came that were not expected.`);
  if (total.payload_bytes_open > 0) notes.push(`${bytes(total.payload_bytes_open)} were on connections that were not closed in order: nobody can say how much of that arrived.`);
  const back = reconnectsSaid(report);
  if (back) notes.push(back);
  const note = going ? `until ${clock(until)}` : null;
  return section("delivered", "Asked and delivered",
    h("div", { class: "beside" },
      table("Steady state", ["What", "#Asked for", "Delivered", "#Share"], rows, note),
      table("Whole run", ["What", "#Sent", "#Received"], totals, note),
      sum(Object.values(load.ticks_missed)) > 0 ? table("Ticks missed", ["Cause", "#Ticks", "Meaning"], missed) : null),
    notes.map((note) => h("p", {}, note)));
}

const MISSED = {
  generator: "we were too late: the next tick had come",
  backpressure: "the last send was unfinished, or too much unanswered",
  disconnected: "the stream was not open",
};

/** What came back after a loss, as `scalectl report` says it. */
function reconnectsSaid({ load, latency, server_changes: changes }) {
  const took = latency.reconnect;
  if (!took || load.reconnects === 0) return null;
  let text = `${many(load.reconnects, "reconnect")} (p50 ${seconds(took.p50)}, max ${seconds(took.max)})`;
  const sessions = load.sessions;
  if (sessions) {
    const parts = [`${thousands(sessions.same)} went on in their session`];
    if (sessions.new > 0) parts.push(`${thousands(sessions.new)} in a new one`);
    if (sessions.unknown > 0) parts.push(`of ${thousands(sessions.unknown)} it cannot be told`);
    const lost = `${thousands(sessions.bytes_lost)} B typed were lost`;
    text += `: ${parts.join(", ")}; ${sessions.cut > 0 ? `at least ${lost} (the replays of ${thousands(sessions.cut)} do not say)` : lost}`;
  }
  const steps = new Set((changes ?? []).filter(({ before, after }) => before !== after).map(({ before, after }) => `${before ?? "unnamed"} → ${after ?? "unnamed"}`));
  return `${text}${steps.size ? `; server ${[...steps].join(", ")}` : ""}.`;
}

/** Every figure of time by percentile. */
function latencyTable(latency, path, caption) {
  const rows = LATENCIES.filter((name) => latency[name]).map((name) => [
    name.replace("_", " "),
    ...PERCENTILES.map((stat) => figure(`${path}.${name}.${stat}`, latency[name][stat], seconds)),
    figure(`${path}.${name}.mean`, latency[name].mean, seconds),
    figure(`${path}.${name}.count`, latency[name].count, thousands),
  ]);
  const head = ["Time", ...PERCENTILES.map((stat) => `#${PERCENTILE_NAMES[stat] ?? stat}`), "#mean", "#count"];
  return table(caption, head, rows);
}

function renderFailures({ report, event, going }) {
  if (!report || !hasTraffic(report)) return null;
  const failed = (going ? event?.connect_failures : null) ?? report.load.connect_failures;
  const lost = (going ? event?.disconnects : null) ?? report.load.disconnects;
  const classes = JSON.parse(document.getElementById("classes").textContent);
  const names = [...new Set([...Object.keys(failed), ...Object.keys(lost)])];
  const count = (of, counts, name) => (going ? thousands(counts[name] ?? 0) : name in counts ? figure(`load.${of}.${name}`, counts[name], thousands) : "0");
  const rows = names.sort((one, other) => (failed[other] ?? 0) + (lost[other] ?? 0) - (failed[one] ?? 0) - (lost[one] ?? 0)).map((name) => {
    const [blame, meaning] = classes[name] ?? ["", ""];
    return [h("code", {}, name), count("connect_failures", failed, name), count("disconnects", lost, name), blame ? h("span", { class: `blame ${blame}` }, blame) : "", meaning];
  });
  return section("failures", "Failures",
    rows.length ? table("By class", ["Class", "#Connects failed", "#Streams lost", "Whose", "Meaning"], rows) : h("p", {}, "No connect failed, and no stream was lost."));
}

/** Groups, targets or stages, a row each. */
function partsTable(parts, path, caption) {
  if (!parts || parts.length === 0) return null;
  const rows = parts.map(({ name, load, latency }, at) => {
    const of = (figureName, show) => figure(`${path}.${at}.load.${figureName}`, load[figureName], show);
    const time = (figureName, stat) => figure(`${path}.${at}.latency.${figureName}.${stat}`, latency[figureName]?.[stat], seconds);
    return [
      name,
      [of("streams_opened", thousands), " / ", of("streams_requested", thousands)],
      of("delivered_ratio", percent),
      of("echoed_ratio", percent),
      of("rate_sent", rate),
      of("rate_received", rate),
      thousands(sum(Object.values(load.connect_failures))),
      thousands(sum(Object.values(load.disconnects))),
      time("response", "p50"),
      time("response", "p99"),
      time("response", "max"),
      time("lateness", "p99"),
    ];
  });
  return table(caption, [capital(caption.replace("By ", "")), "#Streams", "#Delivered", "#Echoed", "#Sent", "#Received", "#Failed", "#Lost", "#Response p50", "#p99", "#max", "#Lateness p99"], rows);
}

function renderParts({ report }) {
  if (!report || !hasTraffic(report)) return null;
  return section("parts", "Groups, targets, stages",
    partsTable(report.groups, "groups", "By group"),
    partsTable(report.targets, "targets", "By target"),
    partsTable(report.stages, "stages", "By stage"));
}

function renderStreams({ report }) {
  const fairness = report?.fairness;
  if (!fairness || fairness.worst_streams.length === 0) return null;
  const rows = fairness.worst_streams.map((stream, at) => [
    stream.stream,
    stream.target,
    figure(`fairness.worst_streams.${at}.response_p99`, stream.response_p99, seconds),
    figure(`fairness.worst_streams.${at}.bytes`, stream.bytes, bytes),
    figure(`fairness.worst_streams.${at}.stalls`, stream.stalls, thousands),
  ]);
  return section("streams", "Worst streams",
    table("The streams that fared worst", ["Stream", "Target", "#Response p99", "#Bytes", "#Stalls"], rows),
    facts([
      ["Slowest over mean throughput", figure("fairness.throughput_min_over_mean", fairness.throughput_min_over_mean, plain)],
      ["Jain's index of fairness", figure("fairness.jain", fairness.jain, plain)],
    ]));
}

function renderObserved({ report }) {
  const rows = Object.entries(report?.observe ?? {}).map(([name, { min, mean, max, last, samples }]) => [name, ...[["min", min], ["mean", mean], ["max", max], ["last", last]].map(([stat, value]) => figure(`observe.${name}.${stat}`, value, plain)), figure(`observe.${name}.samples`, samples, thousands)]);
  return section("observed", "The target's own figures", table("Queries of [observe]", ["Query", "#Min", "#Mean", "#Max", "#Last", "#Samples"], rows));
}

function renderServers({ report }) {
  const versions = (report?.server_versions ?? []).map(({ group, version, first_at, last_at, opened }) => [version, group, clock(first_at), clock(last_at), thousands(opened)]);
  const changes = (report?.server_changes ?? []).map(({ group, before, after, reconnects }) => [`${before ?? "unnamed"} → ${after ?? "unnamed"}`, group, thousands(reconnects)]);
  const ssh = report?.ssh;
  const sets = (ssh?.negotiated ?? []).map(({ kex, cipher, mac, host_key, strict, connections }) => [cipher, mac === "implicit" ? "in the cipher" : mac, kex, host_key, strict ? "yes" : "no", thousands(connections)]);
  const paths = { direct: "direct, past coderd", relayed: "through coderd's relay", unknown: "unknown: it may go past coderd" };
  return section("servers", "The other side",
    table("Versions that servers named", ["Version", "Group", "#First seen", "#Last seen", "#Streams opened"], versions),
    table("Reconnects by version", ["From and to", "Group", "#Reconnects"], changes),
    table("What SSH connections settled on", ["Cipher", "MAC", "Key exchange", "Host key", "Strict", "#Connections"], sets),
    table("Hosts believed at first sight", ["Host", "Key"], (ssh?.accepted_host_keys ?? []).map(({ host, key }) => [host, h("code", {}, key)])),
    ssh?.path ? facts([["Path of SSH", paths[ssh.path]]]) : null);
}

function renderMarks({ report }) {
  return section("marks", "Marks", table("Named moments", ["Text", "#At"], (report?.marks ?? []).map(({ at, text }) => [text, clock(at)])));
}

function renderGenerator({ report, event, going }) {
  const generator = report?.generator;
  if (!generator || !hasTraffic(report)) return null;
  const workers = (going && event?.workers?.length ? event.workers : generator.workers).map((worker) => [
    `cpu ${worker.cpu}`, thousands(worker.streams), roughly(worker.busy_mean), roughly(worker.busy_max), seconds(worker.turn_p99), seconds(worker.turn_max),
  ]);
  return section("generator", "The generator",
    table("Workers", ["Core", "#Streams", "#Busy, mean", "#Busy, most", "#Turn p99", "#Turn max"], workers),
    facts([
      ["CPU a message", optional(generator.cpu_us_per_message, (us) => `${fixed(us, 2)} us`)],
      ["CPU in all", `${fixed(generator.cpu_seconds_user, 1)} s user, ${fixed(generator.cpu_seconds_system, 1)} s system`],
      ["Memory, peak", figure("generator.rss_peak", generator.rss_peak, megabytes)],
      ["Memory a stream", optional(generator.rss_per_stream, (value) => bytes(Math.round(value)))],
      ["Seconds saturated", figure("generator.saturated_seconds", generator.saturated_seconds, thousands)],
    ]));
}

function renderHost({ report }) {
  if (!report) return null;
  const run = report.run;
  const tones = { ok: "good", warn: "warn", fail: "bad" };
  const rows = (report.host ?? []).map(({ name, status, value, source, remedy }) => [name, h("span", { class: `state ${tones[status] ?? "quiet"}` }, status), value, h("span", { class: "muted" }, source), remedy ? h("code", {}, remedy) : ""]);
  const words = (pairs) => Object.entries(pairs ?? {}).map(([name, value]) => `${name} = ${value}`).join(", ");
  return section("host", "Host and run",
    facts([
      ["Run", run.id], ["Name", run.name], ["Labels", words(run.labels)], ["Started", moment(run.started_at)], ["Ended", moment(run.ended_at)],
      ["Seed", String(run.seed)], ["scaled", run.version], ["Kernel", run.kernel], ["Started by", startedBy(run)], ["Target, as stated", words(run.environment)],
    ]),
    table("What doctor saw of this host", ["Looked at", "State", "Found", "Where", "What mends it"], rows));
}
