"""The chat part of the server that speaks OpenAI's protocol: streamed answers, and the ways in which they go wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

Reply = Callable[[list[dict[str, str]]], str]


def repeating(messages: list[dict[str, str]]) -> str:
    """What a model says that only repeats the question."""
    return f"You said: {messages[-1]['content']}"


def pieces_of(text: str, size: int = 7) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def drip_head(handler: BaseHTTPRequestHandler, released: threading.Event, seconds: float) -> None:
    """Promise an answer, then send a header without an end, a byte at a time, until the client leaves or the server ends."""
    handler.close_connection = True
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not released.wait(seconds):
        handler.wfile.write(b"x")


class ChatAnswers:
    """Answers one request to `/v1/chat/completions`, well or by the fault that is asked for."""

    def __init__(
        self, handler: BaseHTTPRequestHandler, reply: Reply, released: threading.Event, hung_up: threading.Event, drip_seconds: float
    ) -> None:
        self._handler = handler
        self._reply = reply
        self._released = released
        self._hung_up = hung_up
        self._drip_seconds = drip_seconds

    def answer(self, body: dict[str, Any], fault: str) -> None:
        getattr(self, f"_{fault}" if fault else "_well")(body)

    # --- bytes ---

    def _begin(self) -> None:
        self._handler.send_response(200)
        self._handler.send_header("Content-Type", "text/event-stream")
        self._handler.send_header("Connection", "close")
        self._handler.end_headers()
        self._handler.close_connection = True

    def _raw(self, data: bytes) -> None:
        try:
            self._handler.wfile.write(data)
            self._handler.wfile.flush()
        except OSError:
            self._hung_up.set()
            raise

    def _event(self, body: dict[str, Any], **more: Any) -> None:
        event = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": body["model"], **more}
        self._raw(b"data: " + json.dumps(event).encode() + b"\n\n")

    def _delta(self, body: dict[str, Any], text: Any, finish: Any = None) -> None:
        self._event(body, choices=[{"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}])

    def _texts(self, body: dict[str, Any]) -> list[str]:
        return pieces_of(self._reply(body["messages"]))

    def _end(self, body: dict[str, Any], finish: str = "stop") -> None:
        self._delta(body, None, finish)
        if body.get("stream_options", {}).get("include_usage"):
            self._event(body, choices=[], usage={"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18})
        self._raw(b"data: [DONE]\n\n")

    # --- answers ---

    def _well(self, body: dict[str, Any]) -> None:
        self._begin()
        for text in self._texts(body):
            self._delta(body, text)
        self._end(body)

    def _lengthy(self, body: dict[str, Any]) -> None:
        self._begin()
        for text in self._texts(body):
            self._delta(body, text)
        self._end(body, "length")

    def _status(self, status: int, **headers: str) -> None:
        data = json.dumps({"error": {"message": f"no: {self._handler.headers['Authorization']}"}}).encode()
        self._handler.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self._handler.send_header(name.replace("_", "-"), value)
        self._handler.end_headers()
        self._handler.wfile.write(data)

    def _busy(self, body: dict[str, Any]) -> None:
        self._status(429, Retry_After="7")

    def _soon(self, body: dict[str, Any]) -> None:
        self._status(429, Retry_After="0")

    def _broken(self, body: dict[str, Any]) -> None:
        self._status(500)

    def _denied(self, body: dict[str, Any]) -> None:
        self._status(401)

    def _redirect(self, body: dict[str, Any]) -> None:
        self._status(307, Location="http://127.0.0.1:9/v1/chat/completions")

    def _no_usage(self, body: dict[str, Any]) -> None:
        """A server that doesn't know the option."""
        if "stream_options" in body:
            self._status(400)
        else:
            self._well(body)

    def _garbage(self, body: dict[str, Any]) -> None:
        self._begin()
        self._raw(b"data: <html>busy</html>\n\ndata: [DONE]\n\n")

    def _page(self, body: dict[str, Any]) -> None:
        self._begin()
        self._raw(b"<html>busy</html>\n")

    def _no_choices(self, body: dict[str, Any]) -> None:
        self._begin()
        self._raw(b'data: {"answer": "42"}\n\ndata: [DONE]\n\n')

    def _numbers(self, body: dict[str, Any]) -> None:
        self._begin()
        self._delta(body, 42)
        self._end(body)

    def _failing(self, body: dict[str, Any]) -> None:
        """An error in the midst of the stream, as providers send it."""
        self._begin()
        self._delta(body, self._texts(body)[0])
        self._raw(b'data: {"error": {"message": "overloaded", "code": 529}}\n\n')

    def _half(self, body: dict[str, Any]) -> None:
        self._begin()
        self._delta(body, self._texts(body)[0])

    def _hang(self, body: dict[str, Any]) -> None:
        self._released.wait(30)
        self._handler.close_connection = True

    def _stall(self, body: dict[str, Any]) -> None:
        self._begin()
        self._delta(body, self._texts(body)[0])
        self._released.wait(30)

    def _drip(self, body: dict[str, Any]) -> None:
        """A piece now and then, for ever."""
        self._begin()
        while not self._released.wait(self._drip_seconds):
            self._delta(body, "word ")

    def _drip_head(self, body: dict[str, Any]) -> None:
        drip_head(self._handler, self._released, self._drip_seconds)
