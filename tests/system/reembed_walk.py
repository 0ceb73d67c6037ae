"""Kills a runner at every step of a move: `python -m tests.system.reembed_walk STEPS DATABASE_URL FOLDER`.

STEPS is a stride, or names of failpoints separated by commas. For each of these places a knowledge base is made, written to, and told to
move to the other model; for every second one that is done in peace, and what is walked through is the way back. The runner is killed there
with SIGKILL. Then more is written, another runner goes on, and so on, until one gets through. After each step every chunk must be found by
its very text with a cosine of 1, which no mixture of models gives. Prints one JSON line.
"""

from __future__ import annotations

import importlib
import itertools
import json
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from agenthub.rag.embedding.weights import MODEL
from tests.api import Api, make_app
from tests.servers.openai_server import openai_server
from tests.system.job_kills import MODULES, Siege, ended

KILLED = -9
REMOTE = "remote"


class Walk(Siege):
    """Knowledge bases that move, one after the other."""

    def __init__(self, database_url: str, folder: Path, endpoint: str) -> None:
        super().__init__(0, database_url, folder)
        self.environment |= {"EMBEDDING_BASE_URL": endpoint, "EMBEDDING_MODEL": REMOTE, "EMBEDDING_API_KEY": "key"}

    def app(self) -> Api:
        chosen = {"AGENTHUB_JOBS": "off", "AGENTHUB_MAINTENANCE": "off", "AGENTHUB_SERVICES": "knowledge.*,platform.authentication"}
        return Api(make_app(self.folder, self.environment["DATABASE_URL"], **{**self.environment, **chosen}))

    def begin(self) -> None:
        self.state.write_text(json.dumps((self.app().login().token, "")))

    def signed_in(self) -> tuple[Api, str]:
        token, base = json.loads(self.state.read_text())
        return Api(self.app().app, token), base

    def make(self, step: int) -> None:
        """A knowledge base, written to, and a move; nobody works on it yet."""
        api, _ = self.signed_in()
        base = f"/api/knowledge-bases/{api.post('/api/knowledge-bases', {'name': f'walk {step}', 'embedding_model': MODEL}, 201)['id']}"
        self.state.write_text(json.dumps((api.token, base)))
        write(api, base, "first")
        api.post(f"{base}/reembedding", {"embedding_model": REMOTE, "auto_switch": True}, 202)

    def roll_back(self) -> None:
        api, base = self.signed_in()
        write(api, base, "between")
        api.post(f"{base}/reembedding/rollback", None, 202)

    def meanwhile(self) -> None:
        """What is written after a runner was killed: it may have to wait for whoever held the knowledge base, and is never refused."""
        api, base = self.signed_in()
        write(api, base, "last")

    def look(self, back: bool) -> None:
        """Write down what is wrong."""
        api, base = self.signed_in()
        (self.folder / "problems.json").write_text(json.dumps(problems(api, base, back)))

    def step(self, place: int | str, number: int) -> int:
        """How the one who was to be killed at that failpoint ended; what it left is brought to its end."""
        back = number % 2 == 0
        assert ended(partial(self.make, number)) == 0
        if back:
            assert ended(self.work) == 0
            assert ended(self.roll_back) == 0
        code = ended(partial(self.work, place))
        assert ended(self.meanwhile) == 0
        assert ended(self.work) == 0
        assert ended(partial(self.look, back)) == 0
        return code


def write(api: Api, base: str, when: str) -> None:
    """Two new chunks, the fixed one replaced, and one of the new ones deleted."""
    items = [{"id": f"{when}-{part}", "text": text_of(f"{when}-{part}")} for part in range(2)]
    api.post(f"{base}/chunks", {"items": [*items, {"id": "fixed", "text": text_of(f"fixed {when}")}]})
    api.post(f"{base}/chunks/delete", {"ids": [f"{when}-1"]})


def text_of(key: str) -> str:
    return f"The secret word is {key}, and nothing else."


def problems(api: Api, base: str, back: bool) -> list[str]:
    found: list[str] = []
    there: Any = api.get(base)
    written = ("first", "between", "last") if back else ("first", "last")
    expected = {f"{when}-0": text_of(f"{when}-0") for when in written} | {"fixed": text_of("fixed last")}
    model = MODEL if back else REMOTE
    if (there["embedding_model"], there["chunk_count"]) != (model, len(expected)):
        found.append(f"{there['chunk_count']} chunks in {there['embedding_model']} instead of {len(expected)} in {model}")
    body = {"queries": list(expected.values()), "mode": "semantic", "top_k": 1}
    for key, result in zip(expected, api.post(f"{base}/search", body)["results"], strict=True):
        hit = result["hits"][0]
        if hit["chunk_id"] != key or hit["score"] < 0.999:
            found.append(f"{key} is not found by its own text: {hit}")
    gone = [f"{when}-1" for when in written]
    found += [f"{key} is there, which was deleted" for key in gone if api.send("GET", f"{base}/chunks/{key}").status_code != 404]
    move: Any = api.get(f"{base}/reembedding")
    if move["state"] != "switched":
        found.append(f"the move is {move['state']}")
    report: Any = api.post(f"{base}/verify", {})
    if not report["intact"]:
        found.append(f"verify found {report['problems']}")
    return found


def places(steps: str) -> Iterator[int | str]:
    """Where runners are killed, one after the other."""
    yield from itertools.count(1, int(steps)) if steps.isdigit() else steps.split(",")


def main(steps: str, database_url: str, folder: Path) -> int:
    started = time.monotonic()
    for module in (*MODULES, "agenthub.jobs.reembedding", "agenthub.rag.embedding.remote"):
        importlib.import_module(module)  # here, used only in children: a fork must not inherit an engine at work
    found: list[str] = []
    kills = moves = 0
    with openai_server(dimension=24) as server:
        walk = Walk(database_url, folder, server.url)
        assert ended(walk.begin) == 0
        for moves, place in enumerate(places(steps), 1):
            code = walk.step(place, moves)
            assert code in (0, KILLED), f"step {place} ended with {code}"
            kills += code == KILLED
            found = json.loads((folder / "problems.json").read_text())
            if code == 0 or found:
                break
    figures = {"kills": kills, "moves": moves, "seconds": round(time.monotonic() - started, 1), "problems": found}
    sys.stdout.write(json.dumps(figures) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
