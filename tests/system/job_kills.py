"""Kills runners at work: `python -m tests.system.job_kills FILES KILLS SEED DATABASE_URL FOLDER`, with `steps` or a number of kills.

With a number, two runners at a time work on a folder of files and are killed with SIGKILL at random moments, so often. With `steps`
a runner is killed at the first failpoint of a job of FILES files, another one goes on, the next job's runner is killed at the second
failpoint, and so on, until one gets through. Then the documents must be
exactly the files: none lost, none twice, none in quarantine, every text found. Prints one JSON line.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from flask import Flask

from agenthub.core import failpoints
from agenthub.core.observe import Unobserved
from agenthub.jobs.runner import Runner
from agenthub.resources import open_resources
from agenthub.settings import Settings
from tests.api import Api, make_app

LEASE_SECONDS = 1
MODULES = (
    "agenthub.jobs.uploads",
    "agenthub.rag.engine",
    "agenthub.rag.embedding.encoders",
    "agenthub.services.knowledge.document_processing.routes",
)
PER_UPLOAD = 100


def forked(run: Callable[[], None]) -> int:
    """The process id of a child that runs this and ends with 0, or 70 when it failed."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            run()
            code = 0
        except BaseException as error:  # noqa: BLE001 - the child must end here, whatever happened
            sys.stderr.write(f"{error!r}\n")
        os._exit(code)
    return child


class Siege:
    """One folder of files on its way into a knowledge base."""

    def __init__(self, files: int, database_url: str, folder: Path) -> None:
        self.files = files
        self.folder = folder
        self.environment = {
            "DATABASE_URL": database_url,
            "VECTOR_STORE_BASE_PATH": str(folder / "knowledge"),
            "AGENTHUB_JOB_LEASE_SECONDS": str(LEASE_SECONDS),
            "AGENTHUB_LOG_LEVEL": "error",
        }
        self.state = folder / "state.json"

    def app(self) -> Api:
        return Api(
            make_app(
                self.folder, self.environment["DATABASE_URL"], AGENTHUB_JOBS="off", AGENTHUB_SERVICES="knowledge.*,platform.authentication"
            )
        )

    def begin(self) -> None:
        """Sign in and make the knowledge base."""
        api = self.app().login()
        base = f"/api/knowledge-bases/{api.post('/api/knowledge-bases', {'name': 'siege'}, 201)['id']}"
        self.state.write_text(json.dumps((api.token, base)))

    def upload(self, first: int) -> None:
        """Send files, a hundred a request; nobody works on them yet."""
        token, base = json.loads(self.state.read_text())
        api = Api(self.app().app, token)
        for start in range(first, first + self.files, PER_UPLOAD):
            numbers = range(start, min(start + PER_UPLOAD, first + self.files))
            files = [(io.BytesIO(text_of(number).encode()), name_of(number)) for number in numbers]
            api.call("POST", f"{base}/documents?wait=0", 202, data={"files": files}, content_type="multipart/form-data")

    def work(self, step: int | str = 0) -> None:
        """Run until no job is open; with a step, until that failpoint, by its number or its name."""
        resources = open_resources(Settings.from_env(self.environment), Flask("siege"), Unobserved())
        runner = Runner(resources)
        failpoints.arm(f"{step}=kill" if isinstance(step, str) else f"all=kill@{step}" if step else "")
        while runner.queue.anything_open():
            if not runner.run_once(10):
                time.sleep(0.05)

    def check(self, count: int) -> None:
        """Write down what is wrong, where so many files were sent."""
        token, base = json.loads(self.state.read_text())
        api = Api(self.app().app, token)
        (self.folder / "problems.json").write_text(json.dumps(problems(api, base, count)))


def name_of(number: int) -> str:
    return f"file-{number:04}.{'md' if number % 25 == 0 else 'txt'}"


def text_of(number: int) -> str:
    return f"# Note {number}\n\nThe secret word of this file is zq{number:05}x. " + "It says nothing else of interest. " * (number % 5)


def problems(api: Api, base: str, count: int) -> list[str]:
    found: list[str] = []
    names, cursor = [], ""
    while True:
        page = api.get(f"{base}/documents?limit=200{cursor}")
        names += [item["filename"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    if sorted(names) != [name_of(number) for number in range(count)]:
        found.append(f"{len(names)} documents, {len(set(names))} different, instead of {count}")
    bad = [job for job in api.get("/api/jobs?limit=200")["items"] if job["status"] != "succeeded"]
    found += [f"job {job['status']}: {job['error']} {job['progress']}" for job in bad]
    for number in range(0, count, max(1, count // 50)):
        hits = api.post(f"{base}/search", {"query": f"zq{number:05}x", "mode": "keyword", "top_k": 5})["hits"]
        if [hit["metadata"]["filename"] for hit in hits] != [name_of(number)]:
            found.append(f"file {number} is found {len(hits)} times")
    knowledge_base = api.get(base)
    if knowledge_base["document_count"] != count:
        found.append(f"the row counts {knowledge_base['document_count']}")
    report: Any = api.post(f"{base}/verify", {})
    if report.get("problems") or report.get("damages"):
        found.append(f"verify found {report}")
    return found


def random_kills(siege: Siege, kills: int, seed: int) -> int:
    """Keep two runners at work and kill one at random moments, so often; how many kills hit one at work."""
    pick, hit = random.Random(seed), 0
    runners = [forked(siege.work) for _ in range(2)]
    while hit < kills:
        time.sleep(pick.uniform(0.05, 0.6))  # short: so many kills shall come before all is done
        victim = pick.randrange(2)
        if os.waitpid(runners[victim], os.WNOHANG)[0] == 0:
            os.kill(runners[victim], signal.SIGKILL)
            os.waitpid(runners[victim], 0)
            hit += 1
        elif all(os.waitpid(runner, os.WNOHANG)[0] != 0 for index, runner in enumerate(runners) if index != victim):
            break  # all is done
        runners[victim] = forked(siege.work)
    for runner in runners:
        with suppress(ChildProcessError):  # seen to have ended above: all was done before so many kills
            os.waitpid(runner, 0)
    return hit


def ended(run: Callable[[], None]) -> int:
    """How a child that runs this ended: 0, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(forked(run), 0)[1])


def every_step(siege: Siege) -> int:
    """Kill at the first failpoint, then at the second, … ; how many steps there were."""
    step, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        step += 1
        assert ended(partial(siege.upload, (step - 1) * siege.files)) == 0
        code = ended(partial(siege.work, step))
        assert ended(siege.work) == 0
    return step


def main(files: int, kills: str, seed: int, database_url: str, folder: Path) -> int:
    siege = Siege(files, database_url, folder)
    for module in MODULES:  # imported here, used only in children: a fork must not inherit an engine at work
        importlib.import_module(module)
    assert ended(siege.begin) == 0
    started = time.monotonic()
    if kills == "steps":
        count = every_step(siege)
        sent = count * files
    else:
        assert ended(partial(siege.upload, 0)) == 0
        count, sent = random_kills(siege, int(kills), seed), files
    assert ended(partial(siege.check, sent)) == 0
    found = json.loads((folder / "problems.json").read_text())
    figures = {"files": sent, "kills": count, "seed": seed, "seconds": round(time.monotonic() - started, 1), "problems": found}
    sys.stdout.write(json.dumps(figures) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4], Path(sys.argv[5])))
