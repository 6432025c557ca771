"""What all connections of a process put their calls on their way with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import trio
from pydantic_core import to_json

from coordinator.actors.directory import Directory
from coordinator.engine.engine import Engine
from coordinator.rpc.access.audit.trail import Logs
from coordinator.rpc.access.gate import Gate
from coordinator.rpc.access.limits import CallerLimits
from coordinator.rpc.jsonrpc.counting import MAX_VALUES
from coordinator.rpc.jsonrpc.decode import Item, Reader, TracedReader
from coordinator.rpc.methods import METHODS
from coordinator.rpc.methods.method import Method
from coordinator.rpc.openrpc import ServedDocument
from coordinator.storage.keys import Layout

__all__ = ["Dispatcher", "largest_written"]


class Dispatcher:
    """Shared by all front-ends.

    Args:
        request_timeout: seconds after which a request is answered with StorageError, whatever the store does.
        max_batch: calls in one batch.
        max_batch_reply: bytes of the reply to one batch.
        document, max_values: see Reader.
        gate: decides who may call what; None: everybody may call everything.
        logs: write down calls, each write and each denial among them, and trace them; None: none of that is done.
        limits: of each caller; None: there are none.
        methods: what may be called.
    """

    def __init__(
        self,
        directory: Directory,
        engine: Engine,
        layout: Layout,
        *,
        request_timeout: float,
        max_batch: int,
        max_batch_reply: int,
        document: ServedDocument | None = None,
        max_values: int = MAX_VALUES,
        gate: Gate | None = None,
        logs: Logs | None = None,
        limits: CallerLimits | None = None,
        methods: Mapping[str, Method] = METHODS,
    ) -> None:
        self.gate = gate
        self.logs = logs
        self.limits = limits
        self.directory = directory
        self.engine = engine
        self.keyspace = layout.keyspace
        self.request_timeout = request_timeout
        self.is_traced = logs is not None and logs.spans is not None
        reader = TracedReader if self.is_traced else Reader
        self.reader = reader(methods, max_batch, document, max_values)
        self.reading = trio.CapacityLimiter(1)  # of more threads at once, each would keep the event loop waiting
        self.max_batch_reply = max_batch_reply
        self.calls = 0

    def read_costly(self, data: str | bytes | bytearray) -> tuple[int | None, Iterable[Item], int | None]:
        """Read a message that takes long to read, in another thread: as `Reader.read` does, and how large what it
        writes is if it is one call."""
        length, items = self.reader.read(data, in_parts=True)
        if length is not None:
            return length, items, None
        [(id, method, params)] = items
        largest = largest_written(method, params) if method is not None and method.writes else None
        return None, [(id, method, params)], largest


def largest_written(method: Method, params: Any) -> int:
    """Bytes of the largest record that a call writes."""
    return max((len(to_json(record)) for record in method.written(params)), default=0)
