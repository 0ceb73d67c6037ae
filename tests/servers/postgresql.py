"""A private PostgreSQL for a test session: own directory, own socket, nothing shared with the machine's."""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg2

INSTALL: Final = "apt-get install -y --no-install-recommends postgresql"
_LOGGED: Final = re.compile(r"LOG:  (?:statement|execute [^:]*): (.*)")
_SETTINGS: Final = "-c listen_addresses='' -c fsync=off -c full_page_writes=off -c max_connections=120"


class MissingServer(Exception):
    """No PostgreSQL binaries are installed; the message is the line that installs them."""


def find_binaries(root: Path = Path("/usr/lib/postgresql")) -> Path:
    """The directory of initdb and pg_ctl: the newest of Debian's, or the one on PATH.

    Raises: MissingServer when there is none.
    """
    versions = [path.parent for path in root.glob("*/bin/initdb")]
    if versions:
        return max(versions, key=lambda path: int(path.parent.name))
    on_path = shutil.which("initdb")
    if on_path is None:
        raise MissingServer(f"PostgreSQL is needed for these tests: set TEST_POSTGRES_URL or run `{INSTALL}` as root")
    return Path(os.path.realpath(on_path)).parent


class PostgresqlServer:
    """A server in a temporary directory, reached by a Unix socket; `stop`, `kill` and `start` it as a test needs."""

    def __init__(self) -> None:
        self._binaries = find_binaries()
        self.directory = Path(tempfile.mkdtemp(prefix="agenthub-pg-", dir="/tmp"))  # a socket's path holds 107 bytes at most
        self._data = self.directory / "data"
        if os.geteuid() == 0:
            postgres = pwd.getpwnam("postgres")
            os.chown(self.directory, postgres.pw_uid, postgres.pw_gid)
        self._run("initdb", "-D", str(self._data), "-U", "app", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")

    @property
    def socket(self) -> Path:
        """The Unix socket, for a proxy."""
        return self.directory / ".s.PGSQL.5432"

    def url(self, database: str = "postgres") -> str:
        """The DATABASE_URL of a database on this server."""
        return f"postgresql://app@{quote(str(self.directory), safe='')}/{database}"

    def start(self) -> None:
        """Start and wait until connections are taken."""
        options = f"-k {self.directory} {_SETTINGS}"
        self._run("pg_ctl", "-D", str(self._data), "-w", "-l", str(self.directory / "log"), "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Shut down: `fast` ends sessions first, `immediate` is a crash."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", mode, "stop")

    def pause(self) -> None:
        """Freeze every process of the server."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen server go on."""
        self._signal(signal.SIGCONT)

    @contextmanager
    def logging_statements(self) -> Iterator[Callable[[], list[str]]]:
        """All statements the server ran since it was started, of every kind, while it logs every one."""
        self._log("all")
        try:
            yield lambda: _LOGGED.findall((self.directory / "log").read_text(errors="replace"))
        finally:
            self._log("none")

    def _log(self, which: str) -> None:
        execute(self.url(), f"ALTER SYSTEM SET log_statement = '{which}'")
        execute(self.url(), "SELECT pg_reload_conf()")
        time.sleep(0.3)  # sessions take it up at their next statement

    def destroy(self) -> None:
        """Stop if running and delete everything."""
        if (self._data / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self.directory, ignore_errors=True)

    def _signal(self, number: int) -> None:
        postmaster = int((self._data / "postmaster.pid").read_text().splitlines()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        for process in [postmaster, *map(int, children)]:
            os.kill(process, number)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), *arguments]
        account = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
        done = subprocess.run(
            command,
            user=account,
            group=account,
            extra_groups=[] if account else None,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed: {done.stdout}")


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    """Run one statement outside any transaction; its rows."""
    connection = psycopg2.connect(libpq_url(url))
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []
    finally:
        connection.close()


def libpq_url(url: str) -> str:
    """The URL as libpq takes it."""
    return "postgresql://" + url.partition("://")[2]


def with_database(url: str, database: str) -> str:
    """The same server's URL for another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


def create_database(url: str, template: str = "template0") -> str:
    """A new empty database on the server; its URL."""
    name = f"agenthub_{secrets.token_hex(6)}"
    execute(url, f'CREATE DATABASE "{name}" TEMPLATE "{template}" ENCODING UTF8')
    return with_database(url, name)


def drop_database(url: str) -> None:
    """Remove a database and whoever is connected to it."""
    name = urlsplit(url).path[1:]
    execute(with_database(url, "postgres"), f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
