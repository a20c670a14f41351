"""The load on an echo server with TLS: the program `load`, with TLS clients that do not verify the certificate."""

from __future__ import annotations

import ssl
import sys

from .load import Client, main


class TlsClient(Client):
    """A connection with TLS."""

    def __init__(self, port: int, message: bytes) -> None:
        super().__init__(port, message)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.sock.setblocking(True)
        self.sock = context.wrap_socket(self.sock)
        self.sock.setblocking(False)

    def push(self) -> None:
        try:
            super().push()
        except ssl.SSLWantWriteError:
            pass

    def pull(self) -> bool:
        """Receive all records that are here; return whether the message is complete."""
        try:
            while not super().pull():
                pass
        except ssl.SSLWantReadError:
            return False
        return True


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]), kind=TlsClient)
