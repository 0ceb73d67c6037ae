"""RELIABILITY.md T17: a worker frozen beyond its lease, as a platform freezes a processor, and let go on: its commits are refused."""

from __future__ import annotations

import io
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agenthub.core.ids import new_id
from tests.api import Api, make_app
from tests.system.workers import ended, worker

FILES = 12
LEASE = {"AGENTHUB_JOB_LEASE_SECONDS": "2"}
LONG_SECONDS = 300.0


def text_of(round_number: int, number: int) -> str:
    """A text of a dozen chunks, unlike all others."""
    return "\n\n".join(f"Paragraph {part} of zq{round_number:02}x{number:03}. " + "It goes on for a while. " * 40 for part in range(12))


def send(api: Api, base: str, round_number: int, files: int = FILES) -> str:
    sent = [(io.BytesIO(text_of(round_number, number).encode()), f"{round_number}-{number}.txt") for number in range(files)]
    answer = api.call("POST", f"{base}/documents?wait=0", 202, data={"files": sent}, content_type="multipart/form-data")
    return str(answer["job"]["id"])


def until_running(api: Api, job: str) -> Any:
    """The job once it is being worked on."""
    limit = time.monotonic() + LONG_SECONDS
    while (seen := api.get(f"/api/jobs/{job}"))["status"] == "queued":
        assert time.monotonic() < limit, seen
        time.sleep(0.01)
    return seen


def names(api: Api, base: str) -> Counter[str]:
    found: Counter[str] = Counter()
    cursor = ""
    while True:
        page = api.get(f"{base}/documents?limit=200{cursor}")
        found.update(str(item["filename"]) for item in page["items"])
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


def freeze(api: Api, base: str, environment: dict[str, str], folder: Path, round_number: int, seconds: float) -> None:
    """One worker is frozen at work, another takes its job over, and the first goes on."""
    with worker(folder, **environment) as frozen:
        job = send(api, base, round_number)
        until_running(api, job)
        time.sleep(0.15 * (round_number % 8))
        frozen.send_signal(signal.SIGSTOP)
        frozen_at = time.monotonic()
        with worker(folder, **environment):
            over = ended(api, job, LONG_SECONDS)
        assert (over["status"], over["progress"]["succeeded"]) == ("succeeded", FILES), over
        time.sleep(max(0.0, frozen_at + seconds - time.monotonic()))
        generation = api.get(base)["generation"]
        frozen.send_signal(signal.SIGCONT)
        after = ended(api, send(api, base, 1000 + round_number, 1), LONG_SECONDS)  # it lives on, and does what comes next
        assert after["status"] == "succeeded", after
        assert api.get(base)["generation"] == generation + 1, "what was done after the lease was lost is no commit"
        frozen.terminate()
        assert frozen.wait(LONG_SECONDS) == 0


def frozen_rounds(folder: Path, url: str, rounds: range, seconds: float, **environment: str) -> int:
    """So many freezes, after which each document is there once; how many slices were refused, by the workers' log."""
    settings = {"DATABASE_URL": url, **environment}
    api = Api(make_app(folder, url, AGENTHUB_JOBS="off", AGENTHUB_MAINTENANCE="off")).login()
    base = f"/api/knowledge-bases/{api.post('/api/knowledge-bases', {'name': f'frozen {new_id()}'}, 201)['id']}"
    for number in rounds:
        freeze(api, base, settings, folder, number, seconds)
    wanted = [f"{number}-{file}.txt" for number in rounds for file in range(FILES)] + [f"{1000 + number}-0.txt" for number in rounds]
    assert names(api, base) == Counter(wanted), "each document is there once"
    report = api.post(f"{base}/verify", {})
    assert not report.get("problems") and not report.get("damages"), report
    refused = (folder / "worker.log").read_text().count("job given up")
    sys.stdout.write(f"{len(rounds)} freezes, {refused} slices refused\n")
    return refused


def test_a_worker_that_was_frozen_beyond_its_lease_commits_nothing_more(tmp_path: Path, migrated_postgresql: str) -> None:
    frozen_rounds(tmp_path, migrated_postgresql, range(1, 2), 0.0, **LEASE)


@pytest.mark.torture
@pytest.mark.timeout(3000)
def test_workers_frozen_at_many_moments_commit_nothing_more(tmp_path: Path, migrated_postgresql: str) -> None:
    assert frozen_rounds(tmp_path, migrated_postgresql, range(10, 20), 0.0, **LEASE) >= 5, "most are frozen in the midst of their job"


@pytest.mark.torture
@pytest.mark.timeout(3000)
def test_a_worker_that_was_frozen_for_two_minutes_commits_nothing_more(tmp_path: Path, migrated_postgresql: str) -> None:
    frozen_rounds(tmp_path, migrated_postgresql, range(2, 3), 120.0)
