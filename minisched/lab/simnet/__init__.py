"""A simulated network, in memory and in virtual time, under unmodified servers and clients.

| file | content |
|---|---|
| `network` | `SimNet`: hosts, latency, loss, partitions, packets; the services of a run on it |
| `page` | a page that shows the packets |
| `sockets` | listeners and connections, which are file-likes |
| `datagrams` | datagram sockets |

Invariants:
1. Bytes arrive once and in order, or the connection is reset.

Not here: faults of the real network (`lab/faults`).
"""

from .network import SimNet

__all__ = ["SimNet"]
