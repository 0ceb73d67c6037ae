"""Hits as JSON. A chunk is kept as the JSON that an answer needs, so it is spliced in, neither read nor written again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from agenthub.rag.searcher import Hit

_STORED: Final = b'{"id":'
"""How every line of a chunk file begins (docs/formats/knowledge-base-1.md); the id, document id, text, metadata and context follow."""
_WHOLE: Final = frozenset({"text", "metadata"})


def hits_json(hits: Sequence[Hit], include: Sequence[str]) -> bytes:
    """The array of these hits in the shape of `HitOut`, with the fields to include.

    Raises: CorruptFile when a hit's line is no chunk.
    """
    wanted = frozenset(include)
    make = _spliced if wanted >= _WHOLE else _picked
    return b"[%b]" % b",".join([make(hit, wanted) for hit in hits])


def _spliced(hit: Hit, wanted: frozenset[str]) -> bytes:
    line = hit.chunk
    if not line.startswith(_STORED):
        return _picked(hit, wanted)
    return b'{%b,"chunk_id":%b' % (orjson.dumps(_scores(hit, wanted))[1:-1], line[len(_STORED) :])


def _picked(hit: Hit, wanted: frozenset[str]) -> bytes:
    answer: dict[str, Any] = {**_scores(hit, wanted), "chunk_id": hit.id, "document_id": hit.document_id}
    if "text" in wanted:
        answer["text"] = hit.text
        if hit.context:
            answer["context"] = hit.context
    if "metadata" in wanted:
        answer["metadata"] = hit.metadata
    return orjson.dumps(answer)


def _scores(hit: Hit, wanted: frozenset[str]) -> dict[str, float | None]:
    if "scores" not in wanted:
        return {"score": hit.score}
    return {"score": hit.score, "semantic_score": hit.semantic_score, "keyword_score": hit.keyword_score}
