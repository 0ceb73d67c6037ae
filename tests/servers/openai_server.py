"""A local server that speaks the embeddings and chat parts of OpenAI's protocol, and reranking; it misbehaves on demand."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import numpy as np

from tests.servers.chat import ChatAnswers, Reply, drip_head, repeating
from tests.servers.listening import listening


def vector_of(text: str, dimension: int) -> list[float]:
    """The vector the server gives a text: made from its hash, deliberately not of length one."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return [float(number) for number in np.random.default_rng(seed).normal(size=dimension).astype(np.float32) * 3]


@dataclass
class OpenAIServer:
    """What the server does and what it saw. `faults` are taken one a request, then it behaves."""

    dimension: int = 8
    knows_base64: bool = True
    faults: list[str] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    hung_up: threading.Event = field(default_factory=threading.Event)  # somebody left in the midst of an answer
    drip_seconds: float = 0.05  # between two bytes of an answer that drips
    reply: Reply = repeating
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def next_fault(self, body: dict[str, Any], headers: dict[str, str]) -> str:
        with self.lock:
            self.requests.append(body)
            self.headers.append(headers)
            return self.faults.pop(0) if self.faults else ""

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        dimension = body.get("dimensions", self.dimension)
        items = [self._item(i, vector_of(text, dimension), body.get("encoding_format")) for i, text in enumerate(texts)]
        return {"object": "list", "model": body["model"], "data": items, "usage": {"prompt_tokens": 1, "total_tokens": 1}}

    def ranked(self, body: dict[str, Any]) -> dict[str, Any]:
        """Shorter texts are better; told in the order of the score, as such endpoints do."""
        order = sorted(range(len(body["documents"])), key=lambda index: len(body["documents"][index]))
        results = [{"index": index, "relevance_score": 1 / (1 + len(body["documents"][index]))} for index in order]
        return {"results": results}

    def _item(self, index: int, vector: Sequence[float], encoding: str | None) -> dict[str, Any]:
        packed = base64.b64encode(np.array(vector, "<f4").tobytes()).decode()
        return {"object": "embedding", "index": index, "embedding": packed if encoding == "base64" else list(vector)}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: OpenAIServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fault = self.state.next_fault(body, {key.lower(): value for key, value in self.headers.items()})
        if self.path == "/v1/rerank" and not fault:
            self._send(200, self.state.ranked(body))
        elif self.path == "/v1/chat/completions":
            self._chat(body, fault)
        elif self.path not in {"/v1/embeddings", "/v1/rerank"}:
            self._send(404, {"error": {"message": "unknown path"}})
        elif body.get("encoding_format") == "base64" and not self.state.knows_base64:
            self._send(400, {"error": {"message": "encoding_format must be float"}})
        elif fault:
            getattr(self, "_" + fault)(body)
        else:
            self._send(200, self.state.answer(body))

    def _chat(self, body: dict[str, Any], fault: str) -> None:
        with suppress(OSError):
            ChatAnswers(self, self.state.reply, self.state.released, self.state.hung_up, self.state.drip_seconds).answer(body, fault)

    def _send(self, status: int, body: Any, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def _changed(self, body: dict[str, Any], change: Any) -> None:
        answer = self.state.answer({**body, "encoding_format": "float"})
        change(answer["data"])
        self._send(200, answer)

    def _busy(self, body: dict[str, Any]) -> None:
        self._send(429, {"error": {"message": "slow down"}}, Retry_After="7")

    def _broken(self, body: dict[str, Any]) -> None:
        self._send(500, {"error": {"message": "oops"}})

    def _denied(self, body: dict[str, Any]) -> None:
        self._send(401, {"error": {"message": f"Incorrect API key provided: {self.headers['Authorization']}"}})

    def _redirect(self, body: dict[str, Any]) -> None:
        self._send(307, b"", Location=self.state.url + "/embeddings")

    def _garbage(self, body: dict[str, Any]) -> None:
        self._send(200, b"<html>busy</html>")

    def _no_data(self, body: dict[str, Any]) -> None:
        self._send(200, {"error": "none"})

    def _nan(self, body: dict[str, Any]) -> None:
        answer = self.state.answer({**body, "encoding_format": "float"})
        answer["data"][0] = self.state._item(0, [float("nan")] * self.state.dimension, "base64")
        self._send(200, answer)

    def _zero(self, body: dict[str, Any]) -> None:
        self._changed(body, lambda data: data[0].update(embedding=[0.0] * self.state.dimension))

    def _huge(self, body: dict[str, Any]) -> None:
        self._changed(body, lambda data: data[0].update(embedding=[1e308] * self.state.dimension))

    def _half(self, body: dict[str, Any]) -> None:
        self._changed(body, lambda data: data.__delitem__(slice(len(data) // 2, None)))

    def _wrong_dimension(self, body: dict[str, Any]) -> None:
        self._changed(body, lambda data: data[-1].update(embedding=[1.0] * (self.state.dimension + 1)))

    def _shuffled(self, body: dict[str, Any]) -> None:
        self._changed(body, lambda data: data.reverse())

    def _doubled(self, body: dict[str, Any]) -> None:
        self._changed(body, lambda data: [item.update(index=0) for item in data])

    def _not_numbers(self, body: dict[str, Any]) -> None:
        self._changed(body, lambda data: data[0].update(embedding=["1", None]))

    def _bad_base64(self, body: dict[str, Any]) -> None:
        self._changed(body, lambda data: data[0].update(embedding="?!"))

    def _cut(self, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"data": [')
        self.close_connection = True

    def _hang(self, body: dict[str, Any]) -> None:
        self.state.released.wait(30)
        self.close_connection = True

    def _drip(self, body: dict[str, Any]) -> None:
        """A byte at a time, each in time, the whole never."""
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self.close_connection = True
        while not self.state.released.wait(self.state.drip_seconds):
            try:
                self.wfile.write(b" ")
            except OSError:
                return

    def _drip_head(self, body: dict[str, Any]) -> None:
        """A header that never ends, a byte at a time, each in time."""
        with suppress(OSError):
            drip_head(self, self.state.released, self.state.drip_seconds)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        return None


@contextmanager
def openai_server(**behaviour: Any) -> Iterator[OpenAIServer]:
    """The server on a free port of this machine, until the block ends."""
    state = OpenAIServer(**behaviour)
    with listening(type("Handler", (_Handler,), {"state": state}), state.released) as address:
        state.url = f"{address}/v1"
        yield state
