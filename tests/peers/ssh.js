// An SSH server on ssh2 for Node.js that echoes or discards, and leaves requests unanswered or refuses them when told to.

const { readFileSync } = require("fs");
const { parseArgs } = require("util");
const { Server, utils } = require("ssh2");

const text = { type: "string" };
const { values: flags } = parseArgs({
  options: {
    port: text,
    "host-key": { type: "string", multiple: true },
    authorized: text, // authorized_keys
    password: text,
    keyboard: text, // the right answer to the one prompt
    anyone: { type: "boolean" },
    kex: text, // like the next two: names, with commas
    ciphers: text,
    macs: text,
    greeting: text, // a line before the identification string
    banner: text, // said before authentication
    "rekey-ms": text, // keys are exchanged anew each so many milliseconds
    stall: text, // auth, channel or command: the request that is never answered
    refuse: text, // channel or command
  },
});

const names = (list) => (list ? list.split(",") : undefined);
const lines = flags.authorized ? readFileSync(flags.authorized, "utf8").trim().split("\n") : [];
const authorized = lines.map((line) => utils.parseKey(line));

function isAuthorized(context) {
  const key = authorized.find((key) => key.getPublicSSH().equals(context.key.data));
  return key && (!context.signature || key.verify(context.blob, context.signature, context.hashAlgo) === true);
}

function authenticate(context) {
  if (flags.stall === "auth") return;
  const methods = ["publickey"];
  if (flags.password) methods.push("password");
  if (flags.keyboard) methods.push("keyboard-interactive");
  const answer = (right) => (right ? context.accept() : context.reject(methods));
  if (flags.anyone) answer(true);
  else if (context.method === "publickey") answer(isAuthorized(context));
  else if (context.method === "password" && flags.password) answer(context.password === flags.password);
  else if (context.method === "keyboard-interactive" && flags.keyboard)
    context.prompt([{ prompt: "Password: ", echo: false }], (answers) =>
      answer(answers.length === 1 && answers[0] === flags.keyboard),
    );
  else answer(false);
}

// The command on a channel: dd to /dev/null discards, all else echoes.
function run(channel, command) {
  channel.on("error", () => {});
  channel.on("end", () => {
    channel.exit(0);
    channel.end();
  });
  if (command.includes("of=/dev/null")) channel.resume();
  else channel.pipe(channel, { end: false });
}

function serve(session) {
  session.on("pty", (accept) => accept && accept());
  session.on("env", (accept) => accept && accept());
  session.on("shell", (accept) => run(accept(), "shell"));
  session.on("exec", (accept, reject, info) => {
    if (flags.stall === "command") return;
    if (flags.refuse === "command") reject();
    else run(accept(), info.command);
  });
}

const server = new Server(
  {
    hostKeys: flags["host-key"].map((path) => readFileSync(path)),
    algorithms: { kex: names(flags.kex), cipher: names(flags.ciphers), hmac: names(flags.macs) },
    greeting: flags.greeting,
    banner: flags.banner,
  },
  (client) => {
    let rekeys;
    client.on("error", () => {});
    client.on("close", () => clearInterval(rekeys));
    client.on("authentication", authenticate);
    client.on("ready", () => {
      if (flags["rekey-ms"]) rekeys = setInterval(() => client.rekey(), Number(flags["rekey-ms"]));
      client.on("session", (accept, reject) => {
        if (flags.stall === "channel") return;
        if (flags.refuse === "channel") reject();
        else serve(accept());
      });
    });
  },
);
server.listen(Number(flags.port), "127.0.0.1");
