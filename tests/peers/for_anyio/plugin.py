"""A pytest plugin that makes minisched anyio's only backend: `pytest -p peers.for_anyio.plugin`."""

from __future__ import annotations

import sys
from types import ModuleType

import anyio._core._eventloop as eventloop

from .backend import Backend


def install():
    """Offer the backend under the name that anyio imports, and no other one, before anyio's conftest is imported."""
    module = sys.modules["anyio._backends._minisched"] = ModuleType("anyio._backends._minisched")
    module.backend_class = Backend
    eventloop.BACKENDS = ("minisched",)


def pytest_collection_modifyitems(items):
    """Leave out what runs on asyncio: anyio's conftest names it beside the backends that there are."""
    items[:] = [item for item in items if not is_for_asyncio(item)]


def is_for_asyncio(item):
    parameters = getattr(item, "callspec", None) and item.callspec.params
    backend = (parameters or {}).get("anyio_backend")
    return (backend[0] if isinstance(backend, tuple) else backend) == "asyncio"


install()
