"""A server that speaks memcached's text protocol behind MemCachier's log-in, as its documentation describes it.

The first command of a connection has to be a `set` with the user as key and the password as value, which is not kept. Everything
else ends the connection. It keeps what it was sent, so that a test can see who was told what.
"""

from __future__ import annotations

import socketserver
import threading
from typing import Final

from tests.servers.memcached import PASSWORD, USERNAME

_END: Final = b"\r\n"


class _Session(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        admitted = False
        while line := self.rfile.readline():
            self.server.received.append(line)
            command, *words = line.decode("ascii").split()
            data = self._data(words) if command in ("set", "add") else b""
            if not admitted:
                admitted = command == "set" and words[0] == USERNAME and data.decode() == PASSWORD
                self.wfile.write(b"STORED\r\n" if admitted else b"CLIENT_ERROR authentication failure\r\n")
                if not admitted:
                    return
            else:
                with self.server.lock:
                    self.wfile.write(getattr(self, f"_{command}")(words, data))

    def _data(self, words: list[str]) -> bytes:
        data = self.rfile.read(int(words[3]) + len(_END))
        self.server.received.append(data)
        return data[: -len(_END)]

    def _set(self, words: list[str], data: bytes) -> bytes:
        self.server.entries[words[0]] = data
        return b"STORED\r\n"

    def _add(self, words: list[str], data: bytes) -> bytes:
        return b"NOT_STORED\r\n" if words[0] in self.server.entries else self._set(words, data)

    def _get(self, words: list[str], _: bytes) -> bytes:
        found = [(key, self.server.entries[key]) for key in words if key in self.server.entries]
        return b"".join(b"VALUE %s 0 %d\r\n%s\r\n" % (key.encode(), len(value), value) for key, value in found) + b"END\r\n"

    def _delete(self, words: list[str], _: bytes) -> bytes:
        return b"DELETED\r\n" if self.server.entries.pop(words[0], None) is not None else b"NOT_FOUND\r\n"

    def _incr(self, words: list[str], _: bytes) -> bytes:
        if words[0] not in self.server.entries:
            return b"NOT_FOUND\r\n"
        self.server.entries[words[0]] = b"%d" % (int(self.server.entries[words[0]]) + int(words[1]))
        return self.server.entries[words[0]] + _END

    def _stats(self, _: list[str], __: bytes) -> bytes:
        return b"STAT version scripted\r\nSTAT curr_items %d\r\nEND\r\n" % len(self.server.entries)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.entries: dict[str, bytes] = {}
        self.received: list[bytes] = []
        self.lock = threading.Lock()


class MemcachierServer:
    """The server on a free port, from `start` to `stop`."""

    def __init__(self) -> None:
        self._server = _Server()
        self.port: int = self._server.server_address[1]

    @property
    def entries(self) -> dict[str, bytes]:
        """What it keeps, by key."""
        return self._server.entries

    @property
    def received(self) -> list[bytes]:
        """Every line and value it was sent."""
        return self._server.received

    def start(self) -> MemcachierServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True, name="memcachier").start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
