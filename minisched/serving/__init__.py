"""Servers: accept connections, run one task for each, and stop in two steps.

`connections` has the handlers of a server, their connections and its limits. `serve` opens the listeners and stops
a server: `serve`, `serve_unix`, `serve_listeners`. `workers` runs one server in several processes: `serve_workers`.
`log` writes what they have to say, and `status` shows what a running server does: `server_status`.

Not here: sockets (`io`); the echo server of the command line (`cli`).
"""
