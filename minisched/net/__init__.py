"""The network: sockets, the addresses and paths at which they listen and to which they connect, and names of hosts.

| file | contents |
|---|---|
| `sockets` | Socket |
| `listening` | Listen and Accept |
| `binding` | the listeners: bound at one address of a host, at all of them, or at a Unix path |
| `dialing` | Connect, and its attempts one after the other |
| `connecting` | open_connection: the addresses of a host, until the first of them answers |
| `names` | Resolve, and the replaceable Names service |
| `datagrams` | OpenDatagram, RecvFrom, SendTo |
| `datagram_sockets` | datagram sockets: opened, and used without waiting |
| `network` | the replaceable Network service, which makes the sockets |
| `addresses` | the forms of an address, HostAddress, and what `getaddrinfo` is asked |
| `unix_paths` | the paths of Unix sockets: made, taken over, and removed |

Below it are `io`, which waits for files, and `bridges`, which waits for threads.
"""
