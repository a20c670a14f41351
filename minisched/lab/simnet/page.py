"""A page that shows the packets of a simulated network: a column for each host, an arrow for each packet.

Theory of operation. The page is one file of HTML with a picture in SVG, and needs no network. A row is a packet, in the
order in which they were sent. Its arrow points from the sender to the receiver, with the time and the content above it.
A packet that gets lost ends in the middle. A screen reader gets a title for each arrow.

Invariant: a name or an address of a program is text on the page, whatever characters it has.

Not here: the packets that are kept (`network`).
"""

from __future__ import annotations

from html import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .network import Packet, SimNet

COLUMN_WIDTH, ROW_HEIGHT, MARGIN = 220, 34, 110  # pixels
STYLE = """
:root { color-scheme: light dark; --line: #888; --packet: #06c; --lost: #c30; }
@media (prefers-color-scheme: dark) { :root { --packet: #6af; --lost: #f86; } }
body { font: 14px system-ui, sans-serif; margin: 1rem; }
svg { font: 12px ui-monospace, monospace; fill: currentColor; }
.host { font-weight: bold; text-anchor: middle; }
.life { stroke: var(--line); stroke-dasharray: 3 4; }
.packet { stroke: var(--packet); } .lost { stroke: var(--lost); }
.tip { fill: var(--packet); } .lost-tip { fill: var(--lost); }
.label { text-anchor: middle; }
"""


def page(net: SimNet) -> str:
    """Return the page of a network, as HTML."""
    hosts = list(
        dict.fromkeys(host for packet in net.packets for host in (name(net, packet.source), name(net, packet.target)))
    )
    columns = {host: MARGIN + number * COLUMN_WIDTH for number, host in enumerate(hosts)}
    width, height = 2 * MARGIN + COLUMN_WIDTH * max(len(hosts) - 1, 0), ROW_HEIGHT * (len(net.packets) + 2)
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8"><title>Packets</title>',
        f"<style>{STYLE}</style></head><body>",
        f"<h1>{len(net.packets):,} packets</h1>",
        f'<svg width="{width}" height="{height}" role="img" aria-label="Packets between {len(hosts)} hosts">',
        *(column for host, x in columns.items() for column in column_of(host, x, height)),
    ]
    for number, packet in enumerate(net.packets):
        here, there = columns[name(net, packet.source)], columns[name(net, packet.target)]
        lines += arrow(net, packet, here, there, ROW_HEIGHT * (number + 2))
    lines.append("</svg>")
    if net.dropped:
        lines.append(f"<p>And {net.dropped:,} more, which were not kept.</p>")
    return "\n".join([*lines, "</body></html>", ""])


def column_of(host: str, x: int, height: int) -> Iterator[str]:
    """Yield the name of a host and its line of life."""
    yield f'<text class="host" x="{x}" y="{ROW_HEIGHT // 2}">{escape(host)}</text>'
    yield f'<line class="life" x1="{x}" y1="{ROW_HEIGHT}" x2="{x}" y2="{height}"/>'


def arrow(net: SimNet, packet: Packet, here: int, there: int, y: int) -> Iterator[str]:
    """Yield the arrow of a packet, with its label; a packet to the same host is a short stroke."""
    lost = packet.fate == "lost"
    there = here + COLUMN_WIDTH // 2 if there == here else there
    end = (here + there) // 2 if lost else there
    back = 6 if end < here else -6
    kind = "packet lost" if lost else "packet"
    label = f"{packet.sent:.6f}  {packet.content}{'  ' + packet.fate if packet.fate else ''}"
    yield f"<g><title>{escape(net.line(packet).strip())}</title>"
    yield f'<line class="{kind}" x1="{here}" y1="{y}" x2="{end}" y2="{y}"/>'
    tip = f"{end},{y} {end + back},{y - 4} {end + back},{y + 4}"
    yield f'<polygon class="{"lost-tip" if lost else "tip"}" points="{tip}"/>'
    yield f'<text class="label" x="{(here + there) // 2}" y="{y - 6}">{escape(label)}</text></g>'


def name(net: SimNet, end: tuple[str, int] | str) -> str:
    """Return the name of the host of an address; a path is a host of its own here."""
    return end if isinstance(end, str) else net.name_of(end[0])
