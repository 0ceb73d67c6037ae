"""Kills a job at every step: `python -m tests.system.job_walks KIND STRIDE DATABASE_URL FOLDER`.

KIND is `archive`, `site`, `records` or `faqs`. For step N what comes in is sent, a runner is killed with SIGKILL at its N-th
failpoint, another one goes on, and so on, until one gets through. FAQs are written by their request: there it is the server that is
killed, and the request is repeated with its Idempotency-Key. In the end everything must be there once. Prints one JSON line.
"""

from __future__ import annotations

import gzip
import importlib
import io
import json
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from agenthub.core import failpoints
from tests.api import Api, make_app
from tests.servers.web_site import text_page, web_site
from tests.system.job_kills import MODULES, Siege, ended

KINDS = ("archive", "site", "records", "faqs")
PARTS = 2
"""Files, pages, records or FAQs of one step."""
KILLED = -9


class Walk(Siege):
    """One kind of job, killed step by step."""

    def __init__(self, kind: str, database_url: str, folder: Path, site: str) -> None:
        super().__init__(PARTS, database_url, folder)
        self.kind = kind
        self.site = site
        self.environment["AGENTHUB_FETCH_ALLOWED_NETWORKS"] = "127.0.0.0/8"

    def app(self) -> Api:
        chosen = {"AGENTHUB_JOBS": "off", "AGENTHUB_MAINTENANCE": "off", "AGENTHUB_SERVICES": "knowledge.*,platform.authentication"}
        return Api(make_app(self.folder, self.environment["DATABASE_URL"], **{**self.environment, **chosen}))

    def begin(self) -> None:
        """Sign in and make the knowledge base; records bring their own vectors."""
        api = self.app().login()
        own = {"embedding_model": None, "dimension": 4} if self.kind == "records" else {}
        base = f"/api/knowledge-bases/{api.post('/api/knowledge-bases', {'name': f'walk {self.kind}', **own}, 201)['id']}"
        self.state.write_text(json.dumps((api.token, base)))

    def signed_in(self) -> tuple[Api, str]:
        token, base = json.loads(self.state.read_text())
        return Api(self.app().app, token), base

    def send(self, step: int) -> None:
        """Send what is to be done in this step; nobody works on it yet."""
        api, base = self.signed_in()
        if self.kind == "archive":
            form = {"files": [(io.BytesIO(archive(step)), f"step-{step}.tar.gz")]}
            api.call("POST", f"{base}/documents?wait=0", 202, data=form, content_type="multipart/form-data")
        elif self.kind == "site":
            api.post(f"{base}/documents/urls", {"sitemap": f"{self.site}/sitemap-{step}.xml"}, 202)
        else:
            api.call("POST", f"{base}/records", 202, data=records(step), content_type="application/jsonl")

    def import_faqs(self, step: int, kill: bool) -> None:
        """Import the step's FAQs under the step's key; killed at that step."""
        api, base = self.signed_in()
        items = [{"question": f"What is {word}?", "answer": text_of(word)} for word in words(step)]
        body = {"knowledge_base_id": base.rsplit("/", 1)[1], "items": items}
        failpoints.arm(f"all=kill@{step}" if kill else "")
        answer = api.post("/api/faqs/import", body, 200, headers={"Idempotency-Key": f"step-{step}"})
        assert answer["created"] == PARTS, answer

    def step(self, number: int) -> int:
        """How the one who was to be killed at that step ended; what it left is brought to its end."""
        if self.kind == "faqs":
            code = ended(partial(self.import_faqs, number, True))
            assert ended(partial(self.import_faqs, number, False)) == 0
            return code
        assert ended(partial(self.send, number)) == 0
        code = ended(partial(self.work, number))
        assert ended(self.work) == 0
        return code

    def judge(self, steps: list[int]) -> None:
        """Write down what is wrong after these steps."""
        api, base = self.signed_in()
        (self.folder / "problems.json").write_text(json.dumps(problems(api, base, self.kind, steps)))


def words(step: int) -> list[str]:
    return [f"zq{step:04}x{part}" for part in range(PARTS)]


def text_of(word: str) -> str:
    return f"The secret word is {word}, and nothing else."


def archive(step: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for word in words(step):
            data = text_of(word).encode()
            entry = tarfile.TarInfo(f"{word}.txt")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return gzip.compress(out.getvalue())


def records(step: int) -> bytes:
    lines = [json.dumps({"id": word, "text": text_of(word), "vector": [1.0, step, 2.0, 1.0]}) for word in words(step)]
    return "\n".join([*lines, "{no json"]).encode()


@contextmanager
def pages(kind: str) -> Iterator[str]:
    """The address of a site with a sitemap and pages for every step; empty for other kinds."""
    if kind != "site":
        yield ""
        return
    with web_site({}) as site:
        for step in range(1, 500):
            entries = "".join(f"<url><loc>{site.url(f'/{word}')}</loc></url>" for word in words(step))
            site.pages[f"/sitemap-{step}.xml"] = text_page(f"<urlset>{entries}</urlset>", "application/xml")
            site.pages |= {f"/{word}": text_page(text_of(word), "text/plain") for word in words(step)}
        yield site.url("")


def problems(api: Api, base: str, kind: str, steps: list[int]) -> list[str]:
    found: list[str] = []
    expected = [word for step in steps for word in words(step)]
    for word in expected:
        hits = api.post(f"{base}/search", {"query": word, "mode": "keyword", "top_k": 5})["hits"]
        if len(hits) != 1:
            found.append(f"{word} is found {len(hits)} times")
    knowledge_base: Any = api.get(base)
    counted = knowledge_base["chunk_count" if kind == "records" else "document_count"]
    if counted != len(expected):
        found.append(f"the row counts {counted} instead of {len(expected)}")
    statuses = Counter(job["status"] for job in listed(api, f"/api/jobs?knowledge_base_id={base.rsplit('/', 1)[1]}"))
    wanted = {"site": {"succeeded": len(steps)}, "archive": {"partly": len(steps)}, "records": {"succeeded": len(steps)}, "faqs": {}}
    if statuses != wanted[kind]:
        found.append(f"jobs ended as {dict(statuses)}")
    report: Any = api.post(f"{base}/verify", {})
    if report.get("problems") or report.get("damages"):
        found.append(f"verify found {report}")
    return found


def listed(api: Api, path: str) -> list[Any]:
    items: list[Any] = []
    cursor = ""
    while True:
        page = api.get(f"{path}&limit=200{cursor}")
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        cursor = f"&cursor={page['next_cursor']}"


def main(kind: str, stride: int, database_url: str, folder: Path) -> int:
    started = time.monotonic()
    for module in (*MODULES, "agenthub.jobs.archives", "agenthub.jobs.sites", "agenthub.jobs.records"):
        importlib.import_module(module)  # here, used only in children: a fork must not inherit an engine at work
    with pages(kind) as site:
        walk = Walk(kind, database_url, folder, site)
        assert ended(walk.begin) == 0
        steps, code = [1], KILLED
        while (code := walk.step(steps[-1])) == KILLED:
            steps.append(steps[-1] + stride)
        assert code == 0, f"step {steps[-1]} ended with {code}"
        assert ended(partial(walk.judge, steps)) == 0
    found = json.loads((folder / "problems.json").read_text())
    figures = {"kind": kind, "kills": len(steps) - 1, "seconds": round(time.monotonic() - started, 1), "problems": found}
    sys.stdout.write(json.dumps(figures) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])))
