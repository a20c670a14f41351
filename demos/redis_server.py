"""A server for clients of Redis: RESP2, pipelined, with expiry, publish and subscribe, and an append-only file.

Shows: `serve` with a protocol that real programs speak; a batch of commands for each read; a file that a thread writes
and syncs for all clients at once (group commit), so that nothing acknowledged is lost when the process is killed; a
subscriber that does not read, and holds up no publisher. The parts are in the folder `keyvalue`, one idea in each file.

Run it:  python demos/redis_server.py [--port PORT | --unix PATH] [--append-only FILE [--fsync always|second|no]] ...
Try it:  redis-cli, or redis-benchmark -t set,get -c 50 -P 16
"""

import sys
from math import inf
from time import monotonic, time_ns

import console
from echo_server import STATUS_SIGNAL, fail, host_and_port, limits_of, server_options, whereabouts
from keyvalue import channels, commands, sessions
from keyvalue.append_only import AppendOnlyError, AppendOnlyFile
from keyvalue.protocol import error
from keyvalue.store import CommandError, Store

from minisched import CurrentTask, Sleep, Spawn, run, serve, serve_unix

EXPIRY_SECONDS = 0.1  # between two searches for keys that have expired
EXPIRY_KEYS = 1000  # dropped in one turn
VERSION = "5.0.0"  # of Redis, whose protocol this is: clients ask for it


def milliseconds():
    """Return the time in milliseconds since 1970."""
    return time_ns() // 1_000_000


class Server:
    """The keys, the channels, the append-only file, if there is one, and what INFO says about them."""

    def __init__(self, log=None):
        self.log = log
        self.store = Store(milliseconds)
        self.channels = channels.Channels()
        self.started = monotonic()
        self.connected = self.connections = self.commands = 0
        self.address = None
        if log is not None:
            self.load()

    def load(self):
        """Do the changes in the append-only file again. No time passes for them: an expiry is a record, too."""
        self.store.clock = lambda: 0
        began = monotonic()
        count = self.log.load(self.redo)
        self.store.clock = milliseconds
        self.store.record = self.log.append
        self.log.on_safe = self.store.saved
        if count:
            took = console.duration(monotonic() - began)
            console.say(f"{console.counted(count, 'change')} loaded from {self.log.path} in {took}")

    def redo(self, words):
        """Do a recorded change."""
        known = commands.COMMANDS[words[0]]
        if not (known.writes and known.least <= len(words) - 1 <= known.most):
            raise CommandError(f"{known.name} is not a change")
        known.function(self.store, *words[1:])

    def handle(self, conn):
        """Serve one connection."""
        self.connected += 1
        self.connections += 1
        name = host_and_port(conn.peer) if isinstance(conn.peer, tuple) else "a Unix client"
        session = sessions.Session(self, conn, (yield CurrentTask()), name)
        try:
            yield from session.serve()
        finally:
            self.connected -= 1
            self.channels.leave(session)

    def do(self, session, words):
        """Do a command; return its answer, and the position in the file that has to be safe before it is sent, or 0."""
        self.commands += 1
        known = commands.COMMANDS.get(words[0].upper()) if len(words[0]) <= sessions.MAX_NAME_BYTES else None
        allowed = known is not None and known.least <= len(words) - 1 <= known.most
        if not allowed or (session.channels and known.name not in sessions.IN_CHANNELS):
            return session.refusal(words), 0
        if known.writes and self.log is not None and self.log.error is not None:
            return self.not_saved(), 0
        self.store.need = 0
        try:
            answer = known.function(self.store if known.of == "store" else session, *words[1:])
        except CommandError as wrong:
            answer = error(str(wrong))
        return answer, self.store.need

    def until_safe(self, answers, needs):
        """Wait until the changes that answers refer to are safe; return the answers, or errors in their place.

        `needs`: positions in the file, by the index of the answer.
        """
        if needs and not (yield from self.log.until_safe(max(needs.values()))):
            for index, position in needs.items():
                if position > self.log.safe:
                    answers[index] = self.not_saved()
        return answers

    def not_saved(self):
        """Return the answer to a change that is refused, or may be lost, since the file cannot be written."""
        reason = getattr(self.log.error, "strerror", None) or self.log.error
        return error(f"MISCONF Errors writing to the AOF file: {reason}")

    def expire_keys(self):
        """Drop keys that have expired, until cancelled; others have turns in between."""
        while True:
            yield Sleep(EXPIRY_SECONDS)
            while self.store.expire_due(EXPIRY_KEYS):
                yield

    def settings(self):
        """Return what CONFIG GET may ask for."""
        fsync = {"second": "everysec"}.get(self.log.fsync, self.log.fsync) if self.log else "no"
        logs = b"yes" if self.log else b"no"
        return {b"appendonly": logs, b"appendfsync": fsync.encode(), b"save": b"", b"databases": b"1"}

    def info(self):
        """Return what INFO says, by section."""
        log = self.log
        keys = {"db0": f"keys={len(self.store.values)},expires={len(self.store.deadlines)},avg_ttl=0"}
        return {
            "Server": {
                "redis_version": VERSION,
                "server_name": "minisched",
                "redis_mode": "standalone",
                "tcp_port": self.address[1] if isinstance(self.address, tuple) else 0,
                "uptime_in_seconds": int(monotonic() - self.started),
            },
            "Clients": {"connected_clients": self.connected},
            "Persistence": {
                "loading": 0,
                "aof_enabled": int(log is not None),
                "aof_last_write_status": "err" if log is not None and log.error is not None else "ok",
                "aof_current_size": 0 if log is None else log.safe,
            },
            "Stats": {
                "total_connections_received": self.connections,
                "total_commands_processed": self.commands,
                "expired_keys": self.store.expired,
                "pubsub_channels": len(self.channels.by_name),
            },
            "Keyspace": keys if self.store.values else {},
        }

    def ready(self, listener):
        """Print the address, and how to try it."""
        self.address = listener.address
        where, _, _ = whereabouts(listener)
        option = f"-s {where}" if isinstance(listener.address, str) else f"-p {listener.address[1]}"
        console.say(f"listening on {where}; try: redis-cli {option} (Ctrl-C stops)")


def main(host="127.0.0.1", port=6379, unix=None, append_only=None, fsync="second", **limits):
    """Serve until cancelled, for example by Ctrl-C; then write what is left to the append-only file."""
    log = AppendOnlyFile(append_only, fsync) if append_only else None
    try:
        server = Server(log)
        yield Spawn(server.expire_keys(), daemon=True)
        if log is not None:
            yield Spawn(log.write_groups(), "append-only file")
            log.running = True
            yield Spawn(log.sync_each_second(), daemon=True)
        limits["status_signal"] = STATUS_SIGNAL
        if unix:
            yield from serve_unix(server.handle, unix, ready=server.ready, **limits)
        else:
            yield from serve(server.handle, host, int(port), ready=server.ready, **limits)
    finally:
        if log is not None:
            log.stop()


def options_of():
    """Return the argument parser."""
    parser = server_options("A server for clients of Redis. Port 0 means any free port.")
    text = "record each change in this file, and load it at the start; default: keys end with the server"
    parser.add_argument("--append-only", metavar="FILE", help=text)
    text = "sync the file before each acknowledgement, each second, or never; default: %(default)s"
    parser.add_argument("--fsync", choices=["always", "second", "no"], default="second", help=text)
    # A client in a pool or with subscriptions is idle for long. No command takes long enough to need a grace.
    parser.set_defaults(port=6379, idle_timeout=inf, grace=0)
    return parser


if __name__ == "__main__":
    options = options_of().parse_args()
    with console.quiet_end():
        try:
            limits = limits_of(options)
            run(main(options.host, options.port, options.unix, options.append_only, options.fsync, **limits))
        except AppendOnlyError as wrong:
            sys.exit(f"redis_server: {wrong}")
        except (OSError, ValueError) as wrong:
            fail("redis_server", options, wrong)
