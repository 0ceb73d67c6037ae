"""A relay on this machine that counts the round trips through it."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import suppress


class CountingRelay:
    """Passes connections on to a server of this machine. A round trip is what is asked after an answer, or first."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._lock = threading.Lock()
        self._round_trips = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True, name="relay").start()

    def taken(self) -> int:
        """The round trips since this was last asked."""
        with self._lock:
            taken, self._round_trips = self._round_trips, 0
        return taken

    def close(self) -> None:
        """Take no more connections; those that are open end with their clients."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True, name="relay-line").start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._upstream)) as server, selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            asking = False
            while True:
                for key, _ in selector.select():
                    data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                    if not data:
                        return
                    if key.fileobj is client and not asking:
                        with self._lock:
                            self._round_trips += 1
                    asking = key.fileobj is client
                    key.data.sendall(data)
