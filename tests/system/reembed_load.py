"""What clients of a knowledge base see while it moves to another model: writers that remember, and searchers that believe nothing.

Every request must be answered as if nothing happened. A text that is there is found with a cosine of 1 by its very text: only
question and passage from one model give that.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.servers.agenthub_server import Remote

FIXED = [f"Fixed fact {number}: nobody ever changes what is written on page {number} of the old atlas." for number in range(120)]


class Load:
    """Clients at work until they are told to stop. `acknowledged` is what must be there in the end, by chunk or document."""

    def __init__(self, url: str, token: str | None, path: str) -> None:
        self.url, self.token, self.path = url, token, path
        self.chunks: dict[str, str] = {}
        self.documents: set[str] = set()
        self.failures: list[str] = []
        self.answers = {"searches": 0, "writes": 0, "uploads": 0}
        self.slowest_seconds = dict.fromkeys(self.answers, 0.0)
        self.generations: set[int] = set()
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def begin(self, writers: int, searchers: int) -> None:
        works: list[Callable[[], None]] = [lambda n=n: self._write(n) for n in range(writers)]  # type: ignore[misc]
        works += [lambda n=n: self._search(n) for n in range(searchers)]  # type: ignore[misc]
        works += [self._upload]
        self._threads = [threading.Thread(target=self._guarded, args=(work,)) for work in works]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join(300)

    def wait_for(self, what: Callable[[], bool], seconds: float = 300.0) -> None:
        """Return when that holds; raises as soon as a client fails."""
        limit = time.monotonic() + seconds
        while not what():
            assert not self.failures, self.failures[:3]
            assert time.monotonic() < limit, ("it never came to that", self.answers)
            time.sleep(0.05)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            self.failures.append(repr(error))
            self.over.set()

    def _did(self, kind: str, began: float) -> None:
        with self._lock:
            self.answers[kind] += 1
            self.slowest_seconds[kind] = max(self.slowest_seconds[kind], time.monotonic() - began)

    def _write(self, name: int) -> None:
        """Add, replace and delete chunks of one's own, one request after the other."""
        remote = Remote(self.url, self.token)
        for number in itertools.count():
            if self.over.is_set():
                return
            key, began = f"w{name}-{number % 40}", time.monotonic()
            if number % 7 == 6 and key in self.chunks:
                remote.post(f"{self.path}/chunks/delete", {"ids": [key]})
                del self.chunks[key]
            else:
                text = f"Note {number} of writer {name} says that parcel {number * 31 + name} has arrived."
                answer = remote.post(f"{self.path}/chunks", {"items": [{"id": key, "text": text}]})
                self.chunks[key] = text
                self.generations.add(answer["generation"])
            self._did("writes", began)

    def _upload(self) -> None:
        """Documents, as jobs, and FAQs."""
        remote, base = Remote(self.url, self.token), self.path.rsplit("/", 1)[1]
        for number in itertools.count():
            if self.over.is_set():
                return
            began = time.monotonic()
            body = {"title": f"Letter {number}", "text": f"Letter {number} was sent in the year {1000 + number}."}
            answer = remote.client.post(f"{self.path}/documents?wait=60", json=body)
            assert answer.status_code == 201, answer.text
            self.documents.add(answer.json()["id"])
            faq = {"knowledge_base_id": base, "question": f"Who wrote letter {number}?", "answer": f"Writer {number}."}
            self.documents.add(remote.post("/api/faqs", faq, 201)["id"])
            self._did("uploads", began)

    def _search(self, name: int) -> None:
        remote = Remote(self.url, self.token)
        for number in itertools.count(name * 17):
            if self.over.is_set():
                return
            began, text = time.monotonic(), FIXED[number % len(FIXED)]
            body = {"query": text, "mode": "semantic" if number % 3 else "hybrid", "top_k": 3}
            answer = remote.post(f"{self.path}/search", body)
            self._judge(answer, text, number % len(FIXED))
            self._did("searches", began)

    def _judge(self, answer: Any, text: str, number: int) -> None:
        best = answer["hits"][0]
        semantic = best.get("semantic_score") or best["score"]
        assert best["chunk_id"] == f"fixed-{number}", (text, answer)
        assert answer["mode"] == "hybrid" or semantic > 0.999, (text, answer)

    # --- the end ---

    def differences(self) -> list[str]:
        """What is there and should not be, or the other way round."""
        remote, found = Remote(self.url, self.token), list[str]()
        expected = {**self.chunks, **{f"fixed-{number}": text for number, text in enumerate(FIXED)}}
        for key, text in expected.items():
            answer = remote.client.get(f"{self.path}/chunks/{key}")
            if answer.status_code != 200 or answer.json()["text"] != text:
                found.append(f"{key}: {answer.status_code} {answer.text[:200]}")
        listed = {item["id"] for item in pages(remote, f"{self.path}/documents")}
        found += [f"document {key} differs" for key in listed ^ self.documents]
        base = remote.get(self.path)
        if base["chunk_count"] != len(expected) + len(self.documents):
            found.append(f"the row counts {base['chunk_count']} chunks, {len(expected) + len(self.documents)} were acknowledged")
        texts = list(expected.items())[:100]
        body = {"queries": [text for _, text in texts], "mode": "semantic", "top_k": 1}
        for (key, text), result in zip(texts, remote.post(f"{self.path}/search", body)["results"], strict=True):
            hit = result["hits"][0]
            if hit["text"] != text or hit["score"] < 0.999:
                found.append(f"{key} is not found by its own text: {hit}")
        return found


def pages(remote: Remote, path: str) -> list[Any]:
    items: list[Any] = []
    cursor = ""
    while True:
        page = remote.get(f"{path}?limit=200{cursor}")
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        cursor = f"&cursor={page['next_cursor']}"
