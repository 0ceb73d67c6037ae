"""A BigQuery emulator of the tests' own (scripts/install_bigquery_emulator.sh), or the service itself where a project is given."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import httpx

from agenthub.storage.bigquery.backend import BigQueryStorage
from agenthub.storage.bigquery.client import NO_RETRY
from agenthub.storage.configuration import BigQuerySettings
from tests.servers.agenthub_server import ROOT, free_port

INSTALL: Final = "scripts/install_bigquery_emulator.sh .venv/emulator"
PROJECT: Final = "agenthub-test"
START_SECONDS: Final = 90.0


class MissingEmulator(Exception):
    """The emulator is not installed; the message is the line that installs it."""


@dataclass(frozen=True, slots=True)
class BigQueryPlace:
    """Where tests make their datasets: an emulator, or a project of the service."""

    project: str
    endpoint: str | None
    location: str = "US"

    def dataset(self) -> BigQuerySettings:
        """The settings of a dataset with a name of its own; nothing is made yet."""
        return BigQuerySettings(self.project, f"agenthub_test_{secrets.token_hex(6)}", self.location, self.endpoint)

    def url(self, settings: BigQuerySettings) -> str:
        """The dataset as a URL (storage/configuration.py, parse_storage_url)."""
        endpoint = f"&endpoint={settings.endpoint}" if settings.endpoint else ""
        return f"bigquery://{settings.project}/{settings.dataset}?location={settings.location}{endpoint}"

    def environment(self, settings: BigQuerySettings) -> dict[str, str]:
        """The variables that give AgentHub this dataset."""
        found = {"GOOGLE_CLOUD_PROJECT": settings.project, "BIGQUERY_DATASET": settings.dataset, "BIGQUERY_LOCATION": settings.location}
        return found | ({"BIGQUERY_EMULATOR_HOST": settings.endpoint} if settings.endpoint else {})


class Emulator:
    """One emulator process with its data in a temporary folder; `pause`, `kill` and `start` it as a test needs."""

    def __init__(self) -> None:
        self.home = ROOT / ".venv" / "emulator"
        self._program = self.home / "bin" / "local-bigquery"
        if not self._program.exists() or not (self.home / "installed.sha256").exists():
            raise MissingEmulator(f"the BigQuery emulator is needed for these tests: run `{INSTALL}`")
        # In memory where there is such a place: each query writes its result to a file.
        shared = Path("/dev/shm")
        self._folder = Path(tempfile.mkdtemp(prefix="agenthub-bigquery-", dir=shared if os.access(shared, os.W_OK) else None))
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Emulator:
        """Start and wait until it answers."""
        command: Sequence[str] = [
            *(str(self._program), "serve", "--host", "127.0.0.1", "--port", str(self.port)),
            *("--grpc-port", str(free_port()), "--project", PROJECT, "--data-dir", str(self._folder / "data")),
        ]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env={"HOME": str(self.home / "home"), "PATH": os.environ["PATH"]}, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        limit = time.monotonic() + START_SECONDS
        while time.monotonic() < limit and self._process.poll() is None:
            try:
                if httpx.get(f"{self.endpoint}/bigquery/v2/projects/{PROJECT}/datasets", timeout=30).status_code == 200:
                    return self
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError(f"the BigQuery emulator does not answer:\n{(self._folder / 'log').read_text()[-4000:]}")

    def place(self) -> BigQueryPlace:
        """Where tests make their datasets."""
        return BigQueryPlace(PROJECT, self.endpoint)

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once; its data stay."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(30)

    def destroy(self) -> None:
        """End it and delete everything."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


def drop_dataset(settings: BigQuerySettings) -> None:
    """Delete the dataset and all in it."""
    storage = BigQueryStorage(replace(settings, timeout_seconds=60.0))
    storage.line.client().delete_dataset(settings.dataset, delete_contents=True, not_found_ok=True, timeout=60, retry=NO_RETRY)
    storage.close()
