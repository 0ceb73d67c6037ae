"""A text on its way from a provider to whoever asked: read by a thread of its own, so that waiting can be bounded and broken off."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from agenthub.core.errors import ProviderFailure
from agenthub.llm.contract import Ending


class Cancelled(Exception):
    """Nobody waits for the text any more."""


class Writing:
    """See `Generation`. `start` runs the reading in a thread; that ends with an ending or a failure, in any case with one of them."""

    def __init__(self, whole_seconds: float) -> None:
        """`whole_seconds` from now the text has to be there, whatever the reading thread is stuck in."""
        self._end = time.monotonic() + whole_seconds
        self._queue: queue.SimpleQueue[str | Ending | ProviderFailure] = queue.SimpleQueue()
        self._cancelled = threading.Event()
        self._response: Any = None
        self._ending: Ending | None = None
        self.begun = False

    @property
    def ending(self) -> Ending | None:
        """See `Generation.ending`."""
        return self._ending

    def start(self, read: Callable[[], Ending], done: Callable[[], None]) -> None:
        """Let a thread read; `done` is called when it is over."""
        threading.Thread(target=self._run, args=(read, done), name="llm", daemon=True).start()

    def pieces(self, heartbeat_seconds: float | None = None) -> Iterator[str | None]:
        """See `Generation.pieces`."""
        while self._ending is None:
            left = self._end - time.monotonic()
            try:
                item = self._queue.get(timeout=max(0.0, left if heartbeat_seconds is None else min(left, heartbeat_seconds)))
            except queue.Empty:
                if time.monotonic() >= self._end:
                    self.close()
                    raise ProviderFailure("the language model did not finish in time") from None
                yield None
                continue
            if isinstance(item, ProviderFailure):
                raise item
            if isinstance(item, Ending):
                self._ending = item
            else:
                yield item

    def close(self) -> None:
        """See `Generation.close`."""
        self._cancelled.set()
        self._hang_up()

    # --- for the reading thread ---

    def attach(self, response: Any) -> None:
        """The provider's answer, whose connection `close` cuts."""
        self._response = response
        self.check()

    def put(self, piece: str) -> None:
        """A piece of the text."""
        self.begun = True
        self._queue.put(piece)

    def check(self) -> None:
        """Raises: Cancelled when nobody waits any more."""
        if self._cancelled.is_set():
            raise Cancelled

    def _run(self, read: Callable[[], Ending], done: Callable[[], None]) -> None:
        outcome: Ending | ProviderFailure = ProviderFailure("the language model's answer broke off")
        try:
            outcome = read()
        except ProviderFailure as failure:
            outcome = failure
        except Cancelled:
            return
        finally:
            done()
            self._queue.put(outcome)

    def _hang_up(self) -> None:
        """Wake a thread that waits for the provider: only shutting the socket does that."""
        extensions = getattr(self._response, "extensions", {})
        stream = extensions.get("network_stream")
        if stream is None:
            return
        with suppress(OSError, AttributeError):
            connection = stream.get_extra_info("socket")
            if connection is not None:
                connection.shutdown(socket.SHUT_RDWR)
