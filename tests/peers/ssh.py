"""An SSH server on AsyncSSH that echoes or discards, and does on request what servers seldom do."""

import argparse
import asyncio

import asyncssh


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host-key", action="append", required=True)
    parser.add_argument("--host-certificate", action="append", default=[])
    parser.add_argument("--authorized", help="authorized_keys; lines of cert-authority trust certificates")
    parser.add_argument("--password", help="what is right as a password")
    parser.add_argument("--keyboard", help="what is right as an answer to the one prompt")
    parser.add_argument("--anyone", action="store_true", help="nobody has to prove anything")
    parser.add_argument("--kex", help="like the next two: names, with commas")
    parser.add_argument("--ciphers")
    parser.add_argument("--macs")
    parser.add_argument("--rekey-bytes", type=int, default=1 << 30)
    parser.add_argument("--rekey-seconds", type=float, default=3600)
    parser.add_argument("--keepalive", type=float, default=0, help="seconds; three without an answer end it")
    parser.add_argument("--window", type=int, default=2 << 20)
    parser.add_argument("--closing", action="store_true", help="the window is never opened again")
    parser.add_argument("--max-packet", type=int, default=32 << 10)
    parser.add_argument("--banner", help="said before authentication")
    parser.add_argument("--stderr", help="said on stderr when the command begins")
    parser.add_argument("--stall", choices=["auth", "channel"], help="the request that is never answered")
    parser.add_argument("--forward", action="store_true", help="open what a direct-tcpip channel asks for")
    parser.add_argument("--after", type=int, default=0, help="bytes from the client, then one of the next three")
    parser.add_argument("--exit-code", type=int)
    parser.add_argument("--exit-signal")
    parser.add_argument("--disconnect", type=int, help="reason code of a disconnect message")
    return parser.parse_args()


class Session(asyncssh.SSHServerSession):
    """One command: dd to /dev/stdout echoes, dd to /dev/null discards, `exit N` does that; no other is run."""

    def __init__(self, flags, connection):
        self.flags, self.connection, self.left = flags, connection, flags.after
        self.command, self.channel, self.done = None, None, False

    def connection_made(self, channel):
        self.channel = channel

    def shell_requested(self):
        self.command = "dd of=/dev/stdout"
        return True

    def exec_requested(self, command):
        self.command = command
        return command.startswith(("dd ", "exit "))

    def session_started(self):
        if self.flags.stderr:
            self.channel.write_stderr(self.flags.stderr.encode())
        if self.command.startswith("exit "):
            self.channel.exit(int(self.command.split()[1]))

    def data_received(self, data, datatype):
        if self.done:
            return
        if "of=/dev/stdout" in self.command:
            self.channel.write(data)
        if self.flags.after:
            self.left -= len(data)
            if self.left <= 0:
                self.done = True
                self.end()

    def end(self):
        if self.flags.disconnect is not None:
            # The library's own way closes each channel before.
            self.connection._send_disconnect(self.flags.disconnect, "as was asked for", "")
            self.connection.abort()
        elif self.flags.exit_signal:
            self.channel.exit_with_signal(self.flags.exit_signal, False, "as was asked for")
        else:
            self.channel.exit(self.flags.exit_code or 0)

    def eof_received(self):
        self.channel.exit(0)

    def signal_received(self, signal):
        self.channel.exit_with_signal(signal)


class Server(asyncssh.SSHServer):
    def __init__(self, flags):
        self.flags, self.connection = flags, None

    def connection_made(self, connection):
        self.connection = connection

    async def begin_auth(self, username):
        if self.flags.banner:
            self.connection.send_auth_banner(self.flags.banner)
            self.connection.send_debug("a message for those who look for mistakes")
        if self.flags.stall == "auth":
            await asyncio.Future()
        return not self.flags.anyone

    def password_auth_supported(self):
        return self.flags.password is not None

    def validate_password(self, username, password):
        return password == self.flags.password

    def kbdint_auth_supported(self):
        return self.flags.keyboard is not None

    def get_kbdint_challenge(self, username, lang, submethods):
        return "", "", "", [("Password: ", False)]

    def validate_kbdint_response(self, username, responses):
        return responses == [self.flags.keyboard]

    def session_requested(self):
        if self.flags.stall == "channel":
            return asyncio.Future()
        channel = self.connection.create_server_channel(encoding=None, max_pktsize=self.flags.max_packet)
        # The library takes a window of 0 for none given, and opens each one again.
        channel._recv_window = self.flags.window
        channel._init_recv_window = 0 if self.flags.closing else self.flags.window
        return channel, Session(self.flags, self.connection)

    def connection_requested(self, dest_host, dest_port, orig_host, orig_port):
        return self.flags.forward


def names(text):
    return text.split(",") if text else ()


async def main():
    flags = arguments()
    listener = await asyncssh.listen(
        "127.0.0.1",
        flags.port,
        server_factory=lambda: Server(flags),
        server_host_keys=flags.host_key,
        server_host_certs=flags.host_certificate,
        authorized_client_keys=flags.authorized,
        kex_algs=names(flags.kex),
        encryption_algs=names(flags.ciphers),
        mac_algs=names(flags.macs),
        compression_algs=None,
        rekey_bytes=flags.rekey_bytes,
        rekey_seconds=flags.rekey_seconds,
        keepalive_interval=flags.keepalive,
        login_timeout=60,
        allow_scp=False,
        line_editor=False,
    )
    await listener.wait_closed()


asyncio.run(main())
