// Coder's flows: what was made and what failed, as `scalectl report` says it (ctl/src/coder/render.rs).

const CONNECT_CLASSES = ["no_agent", "agent_timeout", "agent_lost", "agent_start", "agent_unreachable", "terminal_refused", "terminal_silent"];
const COMMAND_CLASSES = ["terminal_lost", "command_timeout", "command_output"];
const BUILD_CLASSES = ["queue_timeout", "build_timeout", "build_failed", "build_canceled"];
/** Names that are shown of what failed; report.json has them all. */
const NAMES_SHOWN_MAX = 200;

/** What a class of failures means for what was asked for. */
function failedTo(name) {
  if (CONNECT_CLASSES.includes(name)) return "connect";
  if (COMMAND_CLASSES.includes(name)) return "run the command";
  return BUILD_CLASSES.includes(name) ? "be built" : "be made";
}

/** `998 of 1,000 workspaces succeeded, 2 failed to connect.` */
function flowSaid(outcome) {
  let text = `${thousands(outcome.succeeded)} of ${thousands(outcome.requested)} ${outcome.of} succeeded`;
  for (const word of ["be made", "be built", "connect", "run the command"]) {
    const of = Object.entries(outcome.failures).filter(([name]) => failedTo(name) === word && name !== "stopped");
    const count = sum(of.map(([, failures]) => failures.count));
    if (count > 0) text += `, ${thousands(count)} failed to ${word}`;
  }
  const stopped = outcome.failures.stopped;
  return `${text}${stopped ? `, ${thousands(stopped.count)} stopped before` : ""}.`;
}

function classesTable(failures, caption) {
  const rows = Object.entries(failures).map(([name, { count, sentence }]) => [h("code", {}, name), thousands(count), sentence]);
  return table(caption, ["Class", "#Failed", "Meaning"], rows);
}

function phasesTable(outcome) {
  const phases = ["create", "queue", "build", "agent", "connect", "command"].map((name) => [name, outcome.phases[name], `coder.phases.${name}`]);
  const api = Object.entries(outcome.api ?? {}).map(([step, of]) => [`API ${step}`, of, `coder.api.${step}`]);
  const rows = [...phases, ...api].filter(([, of]) => of).map(([name, of, path]) => [
    name,
    ...["p50", "p90", "p99", "max"].map((stat) => figure(`${path}.${stat}`, of[stat], seconds)),
    figure(`${path}.count`, of.count, thousands),
  ]);
  return table("Time by phase", ["Phase", "#p50", "#p90", "#p99", "#max", "#count"], rows);
}

function thingsTable(things, caption, last) {
  return table(caption, ["Name", "Kind", ...(last === "class" ? ["Class"] : []), "Said"],
    things.slice(0, NAMES_SHOWN_MAX).map((thing) => [thing.name, thing.kind ?? "workspace", ...(last === "class" ? [h("code", {}, thing.class)] : []), thing.message ?? thing.why]));
}

function renderCoder({ report }) {
  const outcome = report?.coder;
  if (!outcome) return null;
  const { site, requests, cleanup, command, traffic } = outcome;
  const made = outcome.of && outcome.of !== "things";
  const skipped = traffic?.skipped ? `, ${thousands(traffic.skipped)} could not be driven` : "";
  return section("coder", "Coder",
    made ? h("p", { class: "lead" }, traffic && outcome.flow !== "scenario" ? `${thousands(outcome.requested)} ${outcome.of}, ${thousands(outcome.failed)} failed${skipped}.` : flowSaid(outcome)) : null,
    facts([
      ["Flow", outcome.flow], ["Deployment", site.host], ["Version", site.version], ["Ended", outcome.ended],
      ["Steps", outcome.steps.map((step) => `${step.name} ${seconds(step.seconds)}`).join(", ")],
      ["Still owned", outcome.owned > 0 ? `${thousands(outcome.owned)}; scalectl cleanup --run ${report.run.id} deletes them` : null],
      ["Command", command ? command.command : null], ["Connected", command ? command.connected : null], ["Outputs", command?.outputs],
    ]),
    classesTable(outcome.failures, "Failures by class"),
    traffic ? classesTable(traffic.failures, "Workspaces whose traffic failed, by class") : null,
    phasesTable(outcome),
    outcome.builds ? facts([
      ["Builds", thousands(outcome.builds.count)], ["Asked for at once", thousands(outcome.builds.asked)],
      ["Under way at once", outcome.builds.under_way === null ? null : thousands(outcome.builds.under_way)],
      ["At provisioners at once", outcome.builds.reached === null ? null : thousands(outcome.builds.reached)],
    ]) : null,
    cleanup ? h("p", {}, `Deleted ${many(cleanup.workspaces, "workspace")} and ${many(cleanup.users, "user")} in ${seconds(cleanup.seconds)}${cleanup.gone > 0 ? `; ${thousands(cleanup.gone)} were gone already or never made` : ""}${cleanup.left > 0 ? `; ${thousands(cleanup.left)} are LEFT` : ""}.`) : null,
    cleanup ? thingsTable(cleanup.left_things, "What is left") : null,
    requests.sent > 0 ? facts([
      ["Requests", thousands(requests.sent)], ["Tried again", thousands(requests.retries)], ["Refused by the rate limiter", thousands(requests.rate_limited)],
      ["Answered 5xx", thousands(requests.server_errors)], ["Not answered", thousands(requests.unanswered)],
    ]) : null,
    table("Answers by address", ["Address", "#Answers"], Object.entries(outcome.replicas).map(([address, count]) => [address, thousands(count)])),
    outcome.failed_things.length ? later("coder-failed", "Failed, one by one", () => thingsTable(outcome.failed_things, "Failed, one by one", "class")) : null,
    traffic?.skipped_workspaces.length ? later("coder-skipped", "Without traffic, one by one", () => thingsTable(traffic.skipped_workspaces, "Without traffic, one by one")) : null);
}
