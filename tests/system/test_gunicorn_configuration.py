"""config/gunicorn.py by itself, with an application of a few lines: sockets, silent clients, draining, metrics."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
APPLICATION = """
import os, time

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/sleep/"):
        time.sleep(float(path.removeprefix("/sleep/")))
    name = path.removeprefix("/environment/")
    body = os.environ.get(name, str(os.getpid())).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


@contextmanager
def serving(folder: Path, *, config: Path | None = None, **environment: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """gunicorn over the small application, on a free port; killed at the end if it still runs."""
    (folder / "small.py").write_text(APPLICATION)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("AGENTHUB_", "PROMETHEUS_", "OMP_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-c", str(config or ROOT / "config/gunicorn.py"), "small:application"],
        cwd=folder,
        env=bare | {"PORT": str(port), "AGENTHUB_HOST": "127.0.0.1", "TMPDIR": str(folder)} | environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _wait_until_serving(process, port)
        yield process, port
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _wait_until_serving(process: subprocess.Popen[str], port: int) -> None:
    for _ in range(200):
        if process.poll() is not None:
            pytest.fail(f"gunicorn stopped: {process.communicate()[1]}")
        try:
            if len({get(port, "/") for _ in range(40)}) == 2:  # both workers answer
                return
        except OSError:
            pass
        time.sleep(0.05)
    pytest.fail("two workers never answered")


def get(port: int, path: str) -> str:
    """The body of one answer over its own connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.status == 200
        return response.read().decode()
    finally:
        connection.close()


def listening_sockets(port: int) -> set[str]:
    """Inodes of the sockets that listen on a port, from the kernel's table."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"}


def test_each_worker_has_its_own_socket(tmp_path: Path) -> None:
    with serving(tmp_path) as (_, port):
        assert len(listening_sockets(port)) == 2


def test_a_second_server_on_the_same_port_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path) as (_, port):
        second = subprocess.run(
            [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "config/gunicorn.py"), "small:application"],
            cwd=tmp_path,
            env=os.environ | {"PORT": str(port), "AGENTHUB_HOST": "127.0.0.1"},
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
        )
        assert second.returncode == 1
        assert f"127.0.0.1:{port}: another process listens there" in second.stderr


@pytest.mark.parametrize(("name", "value"), [("PORT", "http"), ("WEB_CONCURRENCY", "0"), ("AGENTHUB_THREADS", "-1")])
def test_a_wrong_number_is_refused_by_name(tmp_path: Path, name: str, value: str) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "config/gunicorn.py"), "small:application"],
        cwd=tmp_path,
        env=os.environ | {name: value},
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert refused.returncode == 1
    assert f"{name}='{value}' is not a whole number" in refused.stderr


def test_workers_inherit_one_native_thread_and_a_directory_for_metrics(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, port):
        assert get(port, "/environment/OMP_NUM_THREADS") == "1"
        metrics = Path(get(port, "/environment/PROMETHEUS_MULTIPROC_DIR"))
        assert metrics.is_dir()
        worker = get(port, "/")
        for name in (f"gauge_livesum_{worker}.db", f"counter_{worker}.db"):
            (metrics / name).touch()
        os.kill(int(worker), signal.SIGKILL)
        while (metrics / f"gauge_livesum_{worker}.db").exists():
            time.sleep(0.05)
        assert (metrics / f"counter_{worker}.db").exists()
        process.terminate()
        process.wait(30)
        assert not metrics.exists()


def test_a_given_directory_for_metrics_is_emptied_and_kept(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    (metrics / "counter_1.db").touch()
    with serving(tmp_path, PROMETHEUS_MULTIPROC_DIR=str(metrics)) as (process, _):
        assert not list(metrics.iterdir())
        process.terminate()
        process.wait(30)
    assert metrics.is_dir()


def test_answers_name_no_server(tmp_path: Path) -> None:
    with serving(tmp_path) as (_, port), socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"\nserver:" not in client.makefile("rb").read().lower()


def test_silent_clients_do_not_hold_every_thread(tmp_path: Path) -> None:
    config = tmp_path / "impatient.py"
    config.write_text(
        f"import runpy\nnamespace = runpy.run_path({str(ROOT / 'config/gunicorn.py')!r})\n"
        "namespace['DrainingWorker'].enqueue_req.__globals__['RECEIVE_SECONDS'] = 1\nglobals().update(namespace)\n"
    )
    with serving(tmp_path, config=config, AGENTHUB_THREADS="2") as (_, port):
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(24)]
        for client in silent:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        assert get(port, "/").isdigit()
        for client in silent:
            client.close()


class Clients:
    """Many clients that ask without pause; `lost` collects every request that was begun and not answered."""

    def __init__(self, port: int) -> None:
        self.port, self.answered, self.refused = port, 0, 0
        self.lost: list[str] = []
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.ask_until_refused) for _ in range(24)]
        for thread in self.threads:
            thread.start()

    def ask_until_refused(self) -> None:
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                connection.connect()
            except ConnectionRefusedError:
                return
            try:
                connection.request("GET", "/sleep/0.05")
                assert connection.getresponse().read().isdigit()
                with self.lock:
                    self.answered += 1
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(repr(error))
            finally:
                connection.close()


def test_no_request_is_lost_when_the_server_stops(tmp_path: Path) -> None:
    """Twenty-four clients over four threads: at every moment some requests run and others wait in the kernel's queue."""
    with serving(tmp_path, AGENTHUB_THREADS="2") as (process, port):
        long_request = threading.Thread(target=get, args=(port, "/sleep/3"))
        long_request.start()
        clients = Clients(port)
        while clients.answered < 100:
            time.sleep(0.01)
        process.terminate()
        process.wait(9)
        for thread in (*clients.threads, long_request):
            thread.join(30)
        assert clients.lost == []
        assert clients.answered >= 100
