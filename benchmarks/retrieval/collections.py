"""Test collections with relevance judgements, and how well a ranking does on one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

DEPTH: Final = 10


@dataclass(frozen=True, slots=True)
class Collection:
    """Texts by document id, questions by query id, and gains by query and document."""

    name: str
    documents: Mapping[str, str]
    queries: Mapping[str, str]
    relevance: Mapping[str, Mapping[str, float]]


def load_collection(folder: Path) -> Collection:
    """Read corpus.jsonl, queries.jsonl and qrels.tsv. A document's text is its title and its text; empty ones are left out.

    Raises: OSError when a file is missing; ValueError or KeyError when one has another form.
    """
    documents = {str(row["id"]): f"{row.get('title', '')}\n{row['text']}".strip() for row in _rows(folder / "corpus.jsonl")}
    queries = {str(row["id"]): str(row["text"]) for row in _rows(folder / "queries.jsonl")}
    relevance: dict[str, dict[str, float]] = {}
    for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, document, gain = line.split("\t")
        relevance.setdefault(query, {})[document] = float(gain)
    judged = {query: text for query, text in queries.items() if any(gain > 0 for gain in relevance.get(query, {}).values())}
    return Collection(folder.name, {key: text for key, text in documents.items() if text}, judged, relevance)


def ndcg(ranking: Sequence[str], gains: Mapping[str, float]) -> float:
    """nDCG@10 of one ranking, 0..1: gain = relevance, discounted by log2(rank + 1), over the best possible ranking."""
    found = sum(gains.get(document, 0.0) / math.log2(rank + 2) for rank, document in enumerate(ranking[:DEPTH]))
    best = sum(gain / math.log2(rank + 2) for rank, gain in enumerate(sorted(gains.values(), reverse=True)[:DEPTH]))
    return found / best if best else 0.0


def mean_ndcg(rankings: Mapping[str, Sequence[str]], collection: Collection) -> float:
    """The mean over all judged queries; one without a ranking counts 0."""
    return sum(ndcg(rankings.get(query, ()), collection.relevance[query]) for query in collection.queries) / len(collection.queries)


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
