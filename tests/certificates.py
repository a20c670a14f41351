"""Certificates for tests, from the library `trustme`: an authority, contexts of both sides, and files for programs."""

from __future__ import annotations

import datetime
import ssl
from functools import cache

import trustme

NAME = "example.org"
PAST = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)


@cache
def authority():
    return trustme.CA()


@cache
def certificate(name=NAME, expired=False):
    return authority().issue_cert(name, **({"not_after": PAST} if expired else {}))


def server_context(name=NAME, *, expired=False, verify=False, alpn=()):
    """Return the context of a server; with `verify`, one that requires a certificate of the client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate(name, expired).configure_cert(context)
    if verify:
        authority().configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def client_context(*, trusting=True, name=None, alpn=()):
    """Return the context of a client that trusts the authority; with a `name`, one that has a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if trusting:
        authority().configure_trust(context)
    if name:
        certificate(name).configure_cert(context)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def write_files(folder, *, expired=False):
    """Write the authority's certificate, and a server's certificate and key; return the three paths."""
    names = [str(folder / name) for name in ("authority.pem", "certificate.pem", "key.pem")]
    made = certificate(NAME, expired)
    authority().cert_pem.write_to_path(names[0])
    for number, blob in enumerate(made.cert_chain_pems):
        blob.write_to_path(names[1], append=number > 0)
    made.private_key_pem.write_to_path(names[2])
    return names
