"""A memcached of the tests' own: plain, with its text log-in (-Y) or with SASL (-S); stopped, frozen and killed as a test needs."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final, Literal, Self

from tests.servers.agenthub_server import free_port
from tests.servers.certificates import Identity

INSTALL: Final = "apt-get install -y --no-install-recommends memcached redis-server sasl2-bin libsasl2-modules"
USERNAME: Final = "hub"
PASSWORD: Final = "correct-horse"
Login = Literal["none", "ascii", "sasl"]


class MissingCacheServer(Exception):
    """A program is not installed; the message is the line that installs it."""


def find_program(name: str) -> str:
    """The path of a server or tool. Raises: MissingCacheServer."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin")
    if found is None:
        raise MissingCacheServer(f"{name} is needed for these tests: run `{INSTALL}` as root")
    return found


class Daemon:
    """A server process on a loopback port, to be started, frozen and killed."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="agenthub-cache-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.environment: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> Self:
        """Start and wait until it takes connections."""
        self.process = subprocess.Popen(
            self.command(),
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        limit = time.monotonic() + 120
        while time.monotonic() < limit:
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.5).close()
                return self
            except OSError:
                assert self.process.poll() is None, f"{self.command()[0]} ended with {self.process.returncode}"
                time.sleep(0.02)
        raise AssertionError(f"{self.command()[0]} does not listen")

    def kill(self) -> None:
        """SIGKILL: everything it held is gone."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def destroy(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class MemcachedServer(Daemon):
    """memcached with little memory, the log-in asked for (USERNAME, PASSWORD), and TLS where it is given a certificate."""

    def __init__(
        self, login: Login = "none", memory_megabytes: int = 64, identity: Identity | None = None, largest_item: str = "1m"
    ) -> None:
        super().__init__()
        self.login = login
        self._program = find_program("memcached")
        self._memory = memory_megabytes
        self._identity = identity
        self._largest_item = largest_item
        if login == "ascii":
            (self.folder / "users").write_text(f"{USERNAME}:{PASSWORD}\n")
        elif login == "sasl":
            self._prepare_sasl()

    def command(self) -> list[str]:
        user = ["-u", pwd.getpwuid(os.geteuid()).pw_name] if os.geteuid() == 0 else []
        login = {"none": [], "ascii": ["-Y", str(self.folder / "users")], "sasl": ["-S"]}[self.login]
        tls = ["-Z", "-o", f"ssl_chain_cert={self._identity.certificate},ssl_key={self._identity.key}"] if self._identity else []
        place = ["-l", "127.0.0.1", "-p", str(self.port), "-U", "0"]
        limits = ["-m", str(self._memory), "-I", self._largest_item, "-c", "512"]
        return [self._program, *user, *place, *limits, *login, *tls]

    def _prepare_sasl(self) -> None:
        database = self.folder / "sasldb"
        make = [find_program("saslpasswd2"), "-a", "memcached", "-c", "-p", "-f", str(database), "-u", socket.gethostname(), USERNAME]
        subprocess.run(make, input=PASSWORD.encode(), check=True, capture_output=True)
        (self.folder / "memcached.conf").write_text(f"mech_list: plain\nlog_level: 0\nsasldb_path: {database}\n")
        self.environment = {"SASL_CONF_PATH": str(self.folder)}
