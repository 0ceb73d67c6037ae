"""How gunicorn serves AgentHub: `gunicorn -c config/gunicorn.py wsgi:app`.

With `agenthub/settings.py` this is the only place that reads the environment, because what it decides comes before the
application is imported. Its variables stand in `config/example.env` like all others.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import select
import shutil
import socket
import struct
import sys
import tempfile
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from gunicorn.http import wsgi as gunicorn_wsgi
from gunicorn.workers.gthread import ThreadWorker

RECEIVE_SECONDS: Final = 30
SEND_SECONDS: Final = 60
LINGER_MILLISECONDS: Final = 2
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8


def _whole_number(name: str, default: int, lowest: int) -> int:
    text = os.environ.get(name, "").strip() or str(default)
    if not text.isdecimal() or int(text) < lowest:
        sys.exit(f"AgentHub can't start: {name}={text!r} is not a whole number of at least {lowest}")
    return int(text)


def _host() -> str:
    """A platform that gives PORT expects every interface; on one's own machine nobody outside is let in unasked."""
    return os.environ.get("AGENTHUB_HOST") or ("0.0.0.0" if os.environ.get("PORT") else "127.0.0.1")


class DrainingWorker(ThreadWorker):
    """gunicorn's gthread worker, which neither loses a waiting connection when it stops nor waits for ever for a silent client,
    and answers a client's next request in the same thread where nobody else waits for one.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._waiting: deque[None] = deque()  # one item for each connection that no thread has taken up yet

    def enqueue_req(self, conn: Any) -> None:
        """Serve a connection, with the kernel limiting how long one read or write may stand still.

        Without this a client that sends half a header keeps one thread for ever (seen with gunicorn 27.0.1).
        """
        self._waiting.append(None)
        if not conn.initialized:
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", RECEIVE_SECONDS, 0))
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_SECONDS, 0))
        super().enqueue_req(conn)

    def handle(self, conn: Any) -> Any:
        """Answer a request, and go on with the connection's next ones as long as they follow at once and no connection waits.

        A kept connection else goes through the poller: two changes of thread a request, which take longer than a search.
        """
        self._waiting.pop()
        kept = super().handle(conn)
        while kept is True and self.alive and not self._waiting and _follows(conn):
            kept = super().handle(conn)
        return kept

    def set_accept_enabled(self, enabled: bool) -> None:
        """When stopping, take what the kernel has accepted on our behalf and close the door at once.

        gunicorn closes its socket at the very end, and the kernel resets everything still queued there.
        """
        super().set_accept_enabled(enabled)
        if self.alive or enabled:
            return
        if jobs := _extension(self, "agenthub_jobs"):
            jobs.stop()
        for listener in self.sockets:
            waiting = -1
            while waiting != self.nr_conns:
                waiting = self.nr_conns
                self.accept(listener)
            listener.close()


def _follows(conn: Any) -> bool:
    """Whether the connection's next request begins within two milliseconds."""
    if conn.is_http2:
        return False
    if conn.parser.unreader.buf.getvalue():
        return True
    poll = select.poll()
    poll.register(conn.sock, select.POLLIN)
    return bool(poll.poll(LINGER_MILLISECONDS))


# --- what gunicorn reads -----------------------------------------------------------------------------------------------

bind = f"{_host()}:{_whole_number('PORT', 5000, 1)}"
workers = _whole_number("WEB_CONCURRENCY", 2, 1)
threads = _whole_number("AGENTHUB_THREADS", 8, 1)
worker_class = DrainingWorker
# Each worker has its own queue of connections: with one shared queue a worker takes connections that its own threads can't serve yet
# while its neighbour is idle. `on_starting` makes up for what this would hide, a second server on the same port.
reuse_port = True
backlog = 1024
worker_connections = 512
# Over the idle time of the usual balancers (60 s), so that it is they who close a connection, never we while they send.
keepalive = 75
# Cloud Run kills ten seconds after SIGTERM.
graceful_timeout = 8
# A gthread worker reports from its main thread, however long a request takes: this catches a frozen process, not a slow answer.
# 0 where the platform stops the CPU between requests (deploy/cloudrun.yaml).
timeout = _whole_number("AGENTHUB_WORKER_TIMEOUT_SECONDS", 60, 0)
# FAISS and its OpenMP threads must never be touched before a fork (docs/adr/0004).
preload_app = False
# Heartbeats are file times: on a slow disk they would block the worker.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None  # noqa: S108 (gunicorn makes unguessable names)
control_socket_disable = True
# Not its parser in C, should that be installed: with it a client that stops in the middle of its headers is waited for without end
# (gunicorn_h1c 0.6.10), and it doesn't make searches measurably faster.
http_parser = "python"
limit_request_line = 8190
limit_request_fields = 64
limit_request_field_size = 8190
accesslog = None  # the application logs each request itself, with its id and its principal
errorlog = "-"
proc_name = "agenthub"


# --- hooks -------------------------------------------------------------------------------------------------------------


def on_starting(server: Any) -> None:
    """In the first process, before any worker: refuse a taken port, prepare what workers inherit."""
    for address in server.address:
        _refuse_taken(address)
    os.environ["AGENTHUB_HOST"] = _reachable_host(server.address)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    _prepare_metrics(server)
    gunicorn_wsgi.Response.default_headers = _headers_without_banner


def when_ready(server: Any) -> None:
    """Say where: with a socket per worker gunicorn's own line is empty."""
    places = (f"http://{address[0]}:{address[1]}" if isinstance(address, tuple) else str(address) for address in server.address)
    server.log.info("AgentHub listens on %s", ", ".join(places))


def _settle_memory() -> None:
    """Keep what was made at the start out of every garbage collection, and collect less often: it took a tenth of a search.

    And let large blocks go back to the system when they are freed: the allocator would keep the memory of the largest uploads, once
    for each of its arenas.
    """
    with suppress(OSError, AttributeError):  # another C library than glibc
        allocator = ctypes.CDLL(None)
        for setting, value in ((_M_ARENA_MAX, 2), (_M_MMAP_THRESHOLD, 1 << 20), (_M_TRIM_THRESHOLD, 4 << 20)):
            allocator.mallopt(setting, value)
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def post_worker_init(worker: Any) -> None:
    """In a worker, after the fork and before its first request: start what works behind requests."""
    _settle_memory()
    if resources := _extension(worker, "agenthub"):
        resources.begin()
    if jobs := _extension(worker, "agenthub_jobs"):
        jobs.start()


def worker_exit(_server: Any, worker: Any) -> None:
    """In a worker that ends: stop what it started."""
    if jobs := _extension(worker, "agenthub_jobs"):
        jobs.close()
    if resources := _extension(worker, "agenthub"):
        resources.end()


def child_exit(_server: Any, worker: Any) -> None:
    """Forget the live gauges of a worker that is gone, as `prometheus_client.multiprocess.mark_process_dead` does.

    Its counters stay, for the sum over all workers must not shrink. That package can't be imported here: workers would inherit its
    choice, made at import, not to share metrics.
    """
    for path in Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob(f"gauge_live*_{worker.pid}.db"):
        path.unlink(missing_ok=True)


def _extension(worker: Any, name: str) -> Any:
    """What the worker's application has under this name; None where the application is another one, or was not built."""
    return getattr(getattr(worker, "wsgi", None), "extensions", {}).get(name)


def on_exit(server: Any) -> None:
    """Remove the directory of metrics if it was made here."""
    if metrics := getattr(server, "agenthub_metrics", None):
        shutil.rmtree(metrics, ignore_errors=True)


def _reachable_host(addresses: list[Any]) -> str:
    """The address the application judges by whether others can reach it: what is really listened on, also with `-b`.

    Anything but loopback wins; behind a unix socket stands a proxy, so that counts as everywhere.
    """
    hosts = [address[0] if isinstance(address, tuple) else "0.0.0.0" for address in addresses]
    return next((host for host in hosts if host != "::1" and not host.startswith("127.")), hosts[0])


def _refuse_taken(address: Any) -> None:
    if not isinstance(address, tuple) or "GUNICORN_PID" in os.environ:  # a unix socket, or a reload of ourselves by USR2
        return
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address[:2])
        except OSError as error:
            reason = "another process listens there" if error.errno == errno.EADDRINUSE else error.strerror
            sys.exit(f"AgentHub can't listen on {address[0]}:{address[1]}: {reason}. Stop it, or choose another PORT.")


def _prepare_metrics(server: Any) -> None:
    given = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    directory = Path(given) if given else Path(tempfile.mkdtemp(prefix="agenthub-metrics-"))
    if not given:
        server.agenthub_metrics = directory
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for left_over in directory.glob("*.db"):
        left_over.unlink()


_gunicorn_headers = gunicorn_wsgi.Response.default_headers


def _headers_without_banner(response: Any) -> list[str]:
    return [header for header in _gunicorn_headers(response) if not header.startswith("Server:")]
