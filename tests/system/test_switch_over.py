"""Live switch-overs while several processes write over HTTP: nothing acknowledged is lost or doubled."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.agenthub_server import AgentHubServer, Remote
from tests.servers.bigquery import BigQueryPlace, drop_dataset
from tests.servers.postgresql import create_database, drop_database

ROOT = Path(__file__).parents[2]
OWNER = {"AGENTHUB_OWNER_EMAIL": "owner@example.com", "AGENTHUB_OWNER_PASSWORD": "correct horse battery staple"}
SERVICES = {"AGENTHUB_SERVICES": "agents.*,platform.*", "AGENTHUB_ACCEPT_EPHEMERAL_SQLITE": "on", "WEB_CONCURRENCY": "2"}
WRITERS = 4


@dataclass(frozen=True, slots=True)
class End:
    """A database: its URL as the commands take it, and the variables that give it to a server."""

    url: str
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class Effort:
    """How fast each client writes, how many agents must be acknowledged on either side, and how long a command may take."""

    pace_seconds: float
    agents: int
    command_seconds: float
    pause_seconds: float


QUICK = Effort(0.0, 40, 120, 60)
ON_BIGQUERY = Effort(2.0, 4, 900, 600)


def command(effort: Effort, *arguments: str, **environment: str) -> str:
    settings = os.environ | SERVICES | environment
    done = subprocess.run(
        [sys.executable, "-m", "agenthub.cli", "storage", *arguments],
        cwd=ROOT,
        env=settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=effort.command_seconds,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def names(client: Remote) -> Counter[str]:
    """Every agent there is, by name."""
    found: Counter[str] = Counter()
    cursor = ""
    while True:
        page = client.get(f"/api/agents?limit=200{cursor}")
        found.update(item["name"] for item in page["items"])
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


class Load:
    """Clients in processes of their own that make agents at either server until they are ended."""

    def __init__(self, folder: Path, effort: Effort, token: str, *urls: str) -> None:
        self._ends, self._folder = folder / "ends", folder
        self._processes = [self._started(effort, token, number, urls) for number in range(WRITERS)]

    def _started(self, effort: Effort, token: str, number: int, urls: tuple[str, ...]) -> subprocess.Popen[bytes]:
        with self._output(number).open("wb") as output, self._output(number, "failed").open("wb") as failed:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.system.switch_load", token, str(number), str(self._ends), *urls],
                cwd=ROOT,
                env=os.environ | {"SWITCH_LOAD_PACE": str(effort.pace_seconds)},
                stdout=output,
                stderr=failed,
            )

    def _output(self, number: int, kind: str = "acknowledged") -> Path:
        return self._folder / f"{kind}-{number}"

    def acknowledged(self) -> list[str]:
        """The names that were acknowledged so far."""
        return [line for number in range(WRITERS) for line in self._output(number).read_text().splitlines()]

    def wait_for(self, more: int) -> None:
        """Wait until so many more agents were acknowledged."""
        wanted, limit = len(self.acknowledged()) + more, time.monotonic() + 600
        while len(self.acknowledged()) < wanted:
            assert time.monotonic() < limit, self.failures()
            time.sleep(0.1)

    def failures(self) -> str:
        return "".join(self._output(number, "failed").read_text() for number in range(WRITERS))

    def end(self, seconds: float) -> None:
        """Let them end by themselves."""
        self._ends.touch()
        for process in self._processes:
            process.wait(seconds)
        assert self.failures() == ""

    def kill(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


@contextmanager
def loaded(folder: Path, effort: Effort, token: str, *urls: str) -> Iterator[Load]:
    load = Load(folder, effort, token, *urls)
    try:
        yield load
    finally:
        load.kill()


def switched_over(folder: Path, here: End, there: End, effort: Effort) -> None:
    """Move from here to there under load, and look for what was acknowledged."""
    old = AgentHubServer(folder, **(OWNER | SERVICES | here.environment))
    new = AgentHubServer(folder, **(OWNER | SERVICES | there.environment))
    with old:
        token = Remote(old.url).login(*OWNER.values()).token or ""
        with loaded(folder, effort, token, old.url, new.url) as load:
            load.wait_for(effort.agents)
            command(effort, "copy", "--from", here.url, "--to", there.url, "--follow", "--once")
            with new:  # serves what was copied, and refuses writes until the switch
                pause = ("--pause-seconds", str(effort.pause_seconds))
                said = command(effort, "switch", "--from", here.url, "--to", there.url, *pause)
                assert "rows verified, 0 repaired" in said
                load.wait_for(effort.agents)
                load.end(effort.command_seconds)
                stored, acknowledged = names(Remote(new.url, token)), load.acknowledged()
                assert stored == Counter(acknowledged), "each acknowledged agent is there once"
                refused = Remote(old.url, token).call("POST", "/api/agents", 503, json={"name": "late"})["error"]
                assert refused["code"] == "writes_paused"
                assert Remote(old.url).client.get("/api/health/ready").status_code == 503
                assert Remote(new.url).client.get("/api/health/ready").status_code == 200
                assert "moved" in command(effort, "status", **here.environment)


def sql(url: str) -> End:
    return End(url, {"DATABASE_URL": url})


@pytest.fixture
def postgresql_end(postgresql_url: str) -> Iterator[End]:
    url = create_database(postgresql_url)
    yield sql(url)
    drop_database(url)


@pytest.fixture
def bigquery_end(bigquery_place: BigQueryPlace) -> Iterator[End]:
    dataset = bigquery_place.dataset()
    project = bigquery_place.environment(dataset) | {"AGENTHUB_BIGQUERY_TIMEOUT_SECONDS": "120"}
    more = {"AGENTHUB_WORKER_TIMEOUT_SECONDS": "300", "WEB_CONCURRENCY": "1"}
    yield End(bigquery_place.url(dataset), {"DATABASE_URL": "", **project, **more})
    drop_dataset(dataset)


def test_a_live_switch_over_loses_nothing_that_was_acknowledged(tmp_path: Path, postgresql_end: End) -> None:
    switched_over(tmp_path, sql(f"sqlite:///{tmp_path}/rows.db"), postgresql_end, QUICK)


@pytest.mark.torture  # minutes on the emulator
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("there", ["bigquery", "postgresql"])
def test_a_live_switch_over_to_bigquery_and_away_loses_nothing_either(
    tmp_path: Path, postgresql_end: End, bigquery_end: End, there: str
) -> None:
    ends = postgresql_end, bigquery_end
    for end in ends:
        command_line = [sys.executable, "-m", "agenthub.cli", "migrate"]
        subprocess.run(command_line, cwd=ROOT, env=os.environ | end.environment, check=True, timeout=300, capture_output=True)
    here, target = ends if there == "bigquery" else reversed(ends)
    switched_over(tmp_path, here, target, ON_BIGQUERY)
