"""How often AgentHub answers what it can't know, and refuses what it could: fits and checks agenthub/rag/answering/calibrated.py.

    python -m benchmarks.answers          # how the present numbers do
    python -m benchmarks.answers --fit    # numbers fitted anew on one half, and how they do on the other

Questions of XQuAD (English) and Cranfield are asked of knowledge bases that hold their documents, and of such that don't: half of XQuAD's
articles are left out of the knowledge base that the other half's questions are asked of (a hard case: the same kind of text), and each
collection's questions are asked of the other. The half that is used to fit shares no article with the half that is used to check.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import httpx
import numpy as np

from agenthub.core.types import TenantId
from agenthub.factory import create_app
from agenthub.rag.answering.calibrated import COEFFICIENTS, THRESHOLD, Coefficients, Signs
from agenthub.rag.answering.evidence import Evidence
from agenthub.rag.searcher import Mode
from agenthub.repositories.knowledge.answering import Answering, Asked
from agenthub.repositories.knowledge.retrieving import Retriever, Wanted
from agenthub.repositories.knowledge.snapshots import Snapshots
from agenthub.resources import Resources
from agenthub.settings import Settings
from benchmarks.retrieval.client import Client
from benchmarks.retrieval.server import ROOT

EMAIL: Final = "owner@example.com"
PASSWORD: Final = "a password of no use elsewhere"  # noqa: S105 - of a server that lives for seconds
MODES: Final[Mapping[Signs, Mode]] = {"both": "hybrid", "words": "keyword"}
Half = Literal["fit", "check"]


@dataclass(frozen=True, slots=True)
class Case:
    """One question asked of one knowledge base: the three signs, and whether its answer is there. `kind` groups the figures."""

    kind: str
    answerable: bool
    signs: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Group:
    """Questions that are asked of a knowledge base."""

    kind: str
    answerable: bool
    questions: Sequence[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and with --fit print new numbers."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.answers", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--fit", action="store_true", help="fit new numbers instead of checking the present ones")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("AGENTHUB_BENCH_DATA", ROOT.parent / "shared" / "data")))
    options = parser.parse_args(arguments)
    cases = _measured(options.data)
    for signs in MODES:
        chosen = fitted(cases["fit", signs]) if options.fit else COEFFICIENTS[signs]
        rounded = ", ".join(f"{weight:.2f}" for weight in chosen.weights)
        print(f'\n"{signs}": Coefficients({chosen.constant:.2f}, ({rounded})),')
        for half in ("fit", "check"):
            print(_table(half, cases[half, signs], chosen))
    return 0


def fitted(cases: Sequence[Case]) -> Coefficients:
    """The logistic function that tells the answerable from the others best, every kind of question counting the same; weights from 0 up."""
    x = np.array([[1.0, *case.signs] for case in cases])
    y = np.array([float(case.answerable) for case in cases])
    sizes = {kind: sum(case.kind == kind for case in cases) for kind in {case.kind for case in cases}}
    kinds = {answerable: len({case.kind for case in cases if case.answerable is answerable}) for answerable in (True, False)}
    importance = np.array([1 / (sizes[case.kind] * kinds[case.answerable]) for case in cases])
    weights = np.zeros(4)
    for _ in range(20_000):
        guessed = 1 / (1 + np.exp(-(x @ weights)))
        gradient = x.T @ (importance * (guessed - y)) + np.array([0.0, *([2e-4] * 3)]) * weights
        weights -= 1.0 * gradient
        weights[1:] = np.maximum(weights[1:], 0.0)
    return Coefficients(float(weights[0]), (float(weights[1]), float(weights[2]), float(weights[3])))


def confidence(case: Case, chosen: Coefficients) -> float:
    """As `Evidence.confidence`."""
    total = chosen.constant + sum(weight * sign for weight, sign in zip(chosen.weights, case.signs, strict=True))
    return float(1 / (1 + np.exp(-total)))


def _table(half: Half, cases: Sequence[Case], chosen: Coefficients) -> str:
    lines = [f"{half}: {'questions':<44}{'count':>6}{'answered':>10}{'wrong':>8}"]
    for kind in dict.fromkeys(case.kind for case in cases):
        those = [case for case in cases if case.kind == kind]
        answered = sum(confidence(case, chosen) >= THRESHOLD for case in those) / len(those)
        wrong = 1 - answered if those[0].answerable else answered
        lines.append(f"{'':>{len(half) + 2}}{kind:<44}{len(those):>6}{answered:>10.1%}{wrong:>8.1%}")
    return "\n".join(lines)


# --- measuring ---


def _measured(data: Path) -> dict[tuple[Half, Signs], list[Case]]:
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "DATABASE_URL": "memory://",
            "VECTOR_STORE_BASE_PATH": folder,
            "AGENTHUB_OWNER_EMAIL": EMAIL,
            "AGENTHUB_OWNER_PASSWORD": PASSWORD,
            "AGENTHUB_LOG_LEVEL": "error",
        }
        app = create_app(Settings.from_env(settings))
        client = Client("http://benchmark", httpx.WSGITransport(app=app))
        client.login(EMAIL, PASSWORD)
        return _asked(client, app.extensions["agenthub"], data)


def _asked(client: Client, resources: Resources, data: Path) -> dict[tuple[Half, Signs], list[Case]]:
    found: dict[tuple[Half, Signs], list[Case]] = {}
    tenant_id = TenantId(client.organization())
    aero = {row["id"]: row for row in _rows(data / "cranfield" / "corpus.jsonl") if row["text"].strip()}
    with client.knowledge_base("cranfield") as cranfield:
        client.add_chunks(cranfield, {key: f"{row['title']}\n{row['text']}" for key, row in aero.items()})
        for half in ("fit", "check"):
            texts, own, others = _xquad(data / "xquad-en", half)
            aeronautic = [
                row["text"] for number, row in enumerate(_rows(data / "cranfield" / "queries.jsonl")) if number % 2 == (half == "fit")
            ]
            with client.knowledge_base(half) as articles:
                client.add_chunks(articles, texts)
                asked = (
                    (articles, Group("XQuAD, of its articles", True, own)),
                    (articles, Group("XQuAD, of other articles", False, others)),
                    (articles, Group("Cranfield, asked of XQuAD", False, aeronautic)),
                    (cranfield, Group("Cranfield, of its abstracts", True, aeronautic)),
                    (cranfield, Group("XQuAD, asked of Cranfield", False, own)),
                )
                for signs, mode in MODES.items():
                    found[half, signs] = [case for base, group in asked for case in _cases(resources, tenant_id, base, group, mode)]
                    print(f"{half}, {mode}: {len(found[half, signs])} questions asked", file=sys.stderr)
    return found


def _xquad(folder: Path, half: Half) -> tuple[dict[str, str], list[str], list[str]]:
    """The paragraphs of the half's knowledge base, the questions of its articles, and those of articles it leaves out.

    Four quarters of the articles: the fitting half holds the first and is asked about the second too, the checking half third and fourth.
    """
    rows = {row["id"]: row for row in _rows(folder / "corpus.jsonl")}
    titles = list(dict.fromkeys(row["title"] for row in rows.values()))
    first = 0 if half == "fit" else 2
    quarter = {title: number % 4 for number, title in enumerate(titles)}
    relevant = dict(line.split("\t")[:2] for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:])
    questions: dict[int, list[str]] = {0: [], 1: [], 2: [], 3: []}
    for row in _rows(folder / "queries.jsonl"):
        questions[quarter[rows[relevant[row["id"]]]["title"]]].append(row["text"])
    texts = {f"x{key}": f"{row['title']}\n{row['text']}" for key, row in rows.items() if quarter[row["title"]] == first}
    return texts, questions[first], questions[first + 1]


def _cases(resources: Resources, tenant_id: TenantId, base_id: str, group: Group, mode: Mode) -> Iterator[Case]:
    answering = Answering(resources.embedders, Retriever(resources.embedders), None, resources.observer)
    opened = [Snapshots(resources.storage, resources.knowledge).open(tenant_id, base_id)]
    for question in group.questions:
        evidence: Evidence = answering.find(opened, Asked(question, Wanted(8, mode))).evidence
        words_only = mode == "keyword"
        signs = (
            (0.0, 0.0, evidence.coverage)
            if words_only
            else (evidence.passage_cosine or 0, evidence.sentence_cosine or 0, evidence.coverage)
        )
        yield Case(group.kind, group.answerable, signs)


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


if __name__ == "__main__":
    sys.exit(main())
