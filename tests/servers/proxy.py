"""A small TCP proxy in front of a server, which spoils connections on purpose."""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

Mode = Literal["pass", "lose_reply", "lose_request", "blackhole", "refuse"]
_LINGER_ZERO: Final = struct.pack("ii", 1, 0)


class Proxy:
    """Forwards loopback connections to a Unix socket or a TCP address.

    Modes: `pass`; `lose_reply` forwards a matching request, waits until the server answered, and resets without passing the
    answer on (a lost acknowledgement); `lose_request` resets instead of forwarding it; `blackhole` keeps connections
    open and drops all bytes; `refuse` resets new connections at once. `latency_seconds` delays every chunk. `matching`
    picks the requests that the losing modes spoil; each spoiled request counts in `spoiled`, and only `budget` are.
    """

    def __init__(self, upstream: Path | tuple[str, int]) -> None:
        self._upstream = upstream
        self.mode: Mode = "pass"
        self.latency_seconds = 0.0
        self.matching: Callable[[bytes], bool] = lambda _: True
        self.budget = 1_000_000
        self.spoiled = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True, name="proxy").start()

    def close(self) -> None:
        """Stop taking connections and reset those that are open."""
        self._server.close()
        self.reset_all()

    def reset_all(self) -> None:
        """Reset every open connection."""
        with self._lock:
            for line in list(self._open):
                _reset(line)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if self.mode == "refuse":
                _reset(client)
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True, name="proxy-line").start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = self._connect()
        except OSError:
            _reset(client)
            return
        with self._lock:
            self._open |= {client, server}
        with suppress(OSError):
            self._pump(client, server)
        with self._lock:
            self._open -= {client, server}
        _reset(client)
        server.close()

    def _connect(self) -> socket.socket:
        if isinstance(self._upstream, Path):
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self._upstream))
            return server
        return socket.create_connection(self._upstream)

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in selector.select():
                    source, target = key.fileobj, key.data
                    assert isinstance(source, socket.socket)
                    data = source.recv(65536)
                    if not data or not self._forward(data, target, from_client=source is client):
                        return

    def _forward(self, data: bytes, target: socket.socket, *, from_client: bool) -> bool:
        """Pass one chunk on as the mode says; False when the connection is over."""
        time.sleep(self.latency_seconds)
        if self.mode == "blackhole":
            return True
        spoils = from_client and self.mode in ("lose_reply", "lose_request") and self.matching(data) and self._spend()
        if not spoils:
            target.sendall(data)
            return True
        if self.mode == "lose_reply":
            target.sendall(data)
            target.recv(65536)
        return False

    def _spend(self) -> bool:
        with self._lock:
            if self.budget <= 0:
                return False
            self.budget -= 1
            self.spoiled += 1
            return True


def _reset(line: socket.socket) -> None:
    with suppress(OSError):
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        line.shutdown(socket.SHUT_RDWR)
    line.close()
