// A scenario's steps: what was done to the deployment, by whom, and what came of it.

const STEP_TONES = { done: "good", failed: "bad", not_run: "bad", running: "quiet", due: "quiet", waiting: "quiet" };
const STEP_PHASES = { before: "before the traffic", after: "after the traffic" };

/** When it began, or is to: on the clock of the series while the traffic goes. */
function stepTime(step) {
  if (STEP_PHASES[step.phase]) return STEP_PHASES[step.phase];
  const at = step.at ?? step.due;
  return at === null || at === undefined ? "" : clock(Math.max(at, 0));
}

/** What came of it, in words. */
function stepSaid(step) {
  if (step.why) return step.why;
  return step.exit_code === null || step.exit_code === undefined ? "" : `exit code ${step.exit_code}`;
}

function stepOutput(step) {
  const shown = new TextEncoder().encode(step.output).length;
  const all = step.output_bytes > shown ? ` (the end of ${thousands(step.output_bytes)} B)` : "";
  return later(`step-output-${step.number}`, `What step ${step.number} wrote${all}`, () => h("pre", {}, step.output));
}

function renderRehearsal({ report, event, going }) {
  const steps = (going ? event?.steps : null) ?? report?.steps ?? [];
  const rows = steps.map((step) => [
    String(step.number),
    step.mark ?? "",
    step.run ?? step.wait_for ? h("code", {}, step.run ?? `wait for ${step.wait_for}`) : "",
    h("span", { class: `state ${STEP_TONES[step.state] ?? "quiet"}` }, step.state.replace("_", " ")),
    stepTime(step),
    step.seconds === null || step.seconds === undefined ? "" : seconds(step.seconds),
    stepSaid(step),
    step.by ? step.by.user ?? `uid ${step.by.uid}` : "",
  ]);
  return section("steps", "Steps",
    table("What was done meanwhile", ["Step", "Mark", "Command", "State", "#At", "#Took", "Said", "By"], rows),
    steps.filter((step) => step.output).map(stepOutput));
}
