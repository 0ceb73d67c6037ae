"""BigQuery as no emulator is: an HTTP server before one that fails on purpose as the service may, by a script."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, Literal

import httpx

from tests.servers.listening import listening

Fault = Literal[
    "quota",  # the call is refused: too many
    "throttled",  # as quota, by the status alone
    "unavailable",  # the call is answered 503 and did nothing
    "lost_request",  # the connection dies before the request arrives
    "lost_reply",  # the request is carried out, the answer lost
    "half_reply",  # the answer breaks off in the middle
    "hang",  # carried out, and never answered
    "aborted",  # the job ends: cancelled in favour of another transaction
    "serialized",  # the job ends: its other message for that
    "dml_queue",  # the job ends: too many statements wait for the table
    "broken_before",  # the job ends by an internal error and did nothing
    "broken_after",  # the job ends by an internal error after it took effect
    "streaming_buffer",  # the job ends: rows are in the streaming buffer
]

_JOB_ERRORS: dict[Fault, tuple[str, str]] = {
    "aborted": (
        "invalidQuery",
        "Query error: Transaction is aborted due to concurrent update against table p:d.t. Transaction ID: 1 at [2:1]",
    ),
    "serialized": ("invalidQuery", "Could not serialize access to table p:d.t due to concurrent update"),
    "dml_queue": (
        "quotaExceeded",
        "Resources exceeded during query execution: Too many DML statements outstanding against table p:d.t, limit is 20.",
    ),
    "broken_before": ("backendError", "Error encountered during execution. Retrying may solve the problem."),
    "broken_after": ("internalError", "An internal error occurred and the request could not be completed."),
    "streaming_buffer": (
        "invalidQuery",
        "UPDATE or DELETE statement over table d.t would affect rows in the streaming buffer, which is not supported",
    ),
}


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the client."""

    method: str
    path: str
    body: bytes

    @property
    def starts_job(self) -> bool:
        """Whether it sends the script of a commit."""
        return self.method == "POST" and self.path.partition("?")[0].endswith("/jobs")

    @property
    def reads(self) -> bool:
        """Whether it is a read."""
        return self.method == "POST" and self.path.partition("?")[0].endswith("/queries")

    @property
    def asks_for_job(self) -> bool:
        """Whether it asks what became of a job."""
        return self.method == "GET"


@dataclass(slots=True)
class FaultyBigQuery:
    """`script` says of each call which fault it meets, None for none; `calls` and `met` are what happened."""

    upstream: str
    script: Callable[[Call], Fault | None]
    endpoint: str = ""
    calls: list[Call] = field(default_factory=list)
    met: list[Fault] = field(default_factory=list)
    ended: dict[str, Fault] = field(default_factory=dict)
    released: threading.Event = field(default_factory=threading.Event)
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60))


def first(fault: Fault, when: Callable[[Call], bool], times: int = 1) -> Callable[[Call], Fault | None]:
    """A script in which the first so many calls of a kind meet the fault."""
    lock, left = threading.Lock(), [times]

    def script(call: Call) -> Fault | None:
        with lock:
            if left[0] == 0 or not when(call):
                return None
            left[0] -= 1
            return fault

    return script


class _Handler(BaseHTTPRequestHandler):
    state: FaultyBigQuery
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        call = Call(self.command, self.path, body)
        self.state.calls.append(call)
        with suppress(BrokenPipeError, ConnectionResetError):
            if not self._ended_before(call):
                fault = self.state.script(call)
                if fault is not None:
                    self.state.met.append(fault)
                self._meet(call, fault)

    def _ended_before(self, call: Call) -> bool:
        """Answer for a job that a fault ended; its like in the emulator may never have been."""
        for job_id, fault in self.state.ended.items():
            if job_id in call.path:
                reason, message = _JOB_ERRORS[fault]
                if "/queries/" in call.path:
                    self._refuse(400, reason, message)
                else:
                    self._say(200, _job(call.path, job_id, reason, message))
                return True
            if call.starts_job and job_id in call.body.decode():
                self._refuse(409, "duplicate", f"Already Exists: Job {job_id}")
                return True
        return False

    def _meet(self, call: Call, fault: Fault | None) -> None:
        if fault == "quota":
            self._refuse(403, "rateLimitExceeded", "Exceeded rate limits: too many api requests per user per method")
        elif fault == "throttled":
            self._refuse(429, "", "Too many requests")
        elif fault == "unavailable":
            self._refuse(503, "backendError", "Error encountered during execution")
        elif fault == "lost_request":
            self.close_connection = True
        elif fault in _JOB_ERRORS:
            self._end_job(call, fault)
        else:
            self._pass_on(call, fault)

    def _end_job(self, call: Call, fault: Fault) -> None:
        job_id = json.loads(call.body)["jobReference"]["jobId"]
        if fault == "broken_after":
            self._carried_out(call)
            self._await_job(job_id)
        self.state.ended[job_id] = fault
        self._say(200, _job(call.path, job_id, *_JOB_ERRORS[fault]))

    def _await_job(self, job_id: str) -> None:
        project = self.path.split("/projects/")[1].split("/")[0]
        while (
            self.state.client.get(f"{self.state.upstream}/bigquery/v2/projects/{project}/jobs/{job_id}").json()["status"]["state"] != "DONE"
        ):
            time.sleep(0.02)

    def _carried_out(self, call: Call) -> httpx.Response:
        headers = {"Content-Type": self.headers.get("Content-Type") or "application/json"}
        return self.state.client.request(call.method, self.state.upstream + call.path, content=call.body, headers=headers)

    def _pass_on(self, call: Call, fault: Fault | None) -> None:
        answer = self._carried_out(call)
        if fault == "lost_reply":
            self.close_connection = True
        elif fault == "hang":
            self.state.released.wait(30)
            self.close_connection = True
        else:
            self._send(answer.status_code, answer.content, half=fault == "half_reply")

    def _refuse(self, status: int, reason: str, message: str) -> None:
        errors = [{"reason": reason, "message": message}] if reason else []
        self._say(status, {"error": {"code": status, "message": message, "errors": errors}})

    def _say(self, status: int, value: Any) -> None:
        self._send(status, json.dumps(value).encode(), half=False)

    def _send(self, status: int, content: bytes, *, half: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if half else content)
        self.close_connection = half

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        return None


def _job(path: str, job_id: str, reason: str, message: str) -> dict[str, Any]:
    error = {"reason": reason, "message": message, "location": "query"}
    return {
        "jobReference": {"projectId": path.split("/projects/")[1].split("/", maxsplit=1)[0], "jobId": job_id, "location": "US"},
        "configuration": {"jobType": "QUERY", "query": {"query": "script"}},
        "status": {"state": "DONE", "errorResult": error, "errors": [error]},
        "statistics": {},
    }


@contextmanager
def faulty_bigquery(upstream: str, script: Callable[[Call], Fault | None]) -> Iterator[FaultyBigQuery]:
    """The server on a free port of this machine, until the block ends."""
    state = FaultyBigQuery(upstream, script)
    try:
        with listening(type("Handler", (_Handler,), {"state": state}), state.released) as address:
            state.endpoint = address
            yield state
    finally:
        state.client.close()
