"""TLS for the demo servers: their two options, a context of the standard library's `ssl`, and a command to try it.

Shows: a context is all that `serve(tls=...)` needs. A certificate for trying comes from the library `trustme` (of the
extra `demo`); no program trusts it, and it is in memory only.

Run it:  python demos/echo_server.py --self-signed    (this file does nothing by itself)
"""

import shlex
import sys


def add_options(parser):
    """Add the options for TLS to an argument parser."""
    group = parser.add_mutually_exclusive_group()
    text = "serve TLS with this certificate and its key, two files in PEM format"
    group.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"), help=text)
    text = "serve TLS with a new certificate, for trying (needs the library trustme)"
    group.add_argument("--self-signed", action="store_true", help=text)


def context_of(options):
    """Return the context for TLS that the options ask for, or None; exit with one line if there is none."""
    if not options.tls and not options.self_signed:
        return None
    import ssl  # imported here: a server without TLS starts faster

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if options.self_signed:
        load_new_certificate(context, options.host)
    else:
        certificate, key = options.tls
        try:
            context.load_cert_chain(certificate, key)
        except OSError as error:  # an error of ssl is one, too
            sys.exit(f"--tls {certificate} {key}: {error.strerror or error}")
    return context


def load_new_certificate(context, host):
    """Make a certificate for this machine, and load it."""
    try:
        import trustme  # imported here: the server runs without it
    except ImportError:
        sys.exit("--self-signed needs the library trustme: pip install -e '.[demo]'")
    names = dict.fromkeys(["localhost", "127.0.0.1", "::1", *([host] if host else [])])
    trustme.CA().issue_cert(*names).configure_cert(context)


def command(address):
    """Return the command of OpenSSL that connects to an address, as `listener.address` has it."""
    if isinstance(address, str):
        return f"openssl s_client -quiet -unix {shlex.quote(address)}"
    host, port = address[:2]
    return f"openssl s_client -quiet -connect {f'[{host}]' if ':' in host else host}:{port}"
