"""uvloop: the tasks of asyncio on an event loop in C."""

from __future__ import annotations

import uvloop

from . import with_asyncio
from .with_asyncio import *  # noqa: F403

with_asyncio.run = uvloop.run
