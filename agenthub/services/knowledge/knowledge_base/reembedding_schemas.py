"""Request and answer shapes of re-embeddings."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from pydantic import Field

from agenthub.repositories.knowledge.reembedding_requests import Standing
from agenthub.repositories.knowledge.reembeddings import ReembeddingState
from agenthub.web.schema import Id, Schema

_Model = Annotated[str, Field(min_length=1, max_length=200, description="one of the server's models, see GET /api/embeddings/models")]


class ReembeddingTarget(Schema):
    """Which model to go to."""

    embedding_model: _Model


class ReembeddingCreate(Schema):
    """Which model to go to, and how. `chunks_per_second` bounds what is asked of it."""

    embedding_model: _Model
    auto_switch: Annotated[bool, Field(description="switch as soon as the shadow is complete, without comparing first")] = False
    chunks_per_second: Annotated[int | None, Field(ge=1, le=100_000)] = None


class ReembeddingCompare(Schema):
    """How many documents of each question are looked at."""

    k: Annotated[int, Field(ge=1, le=50)] = 10


class EstimateOut(Schema):
    """What it would take: tokens are four characters each, the rate was measured just now, `disk_bytes` is what the shadow needs."""

    embedding_model: str
    dimension: int
    chunks: int
    characters: int
    tokens: int
    rate: Annotated[float, Field(description="chunks a second; 0 where there is no chunk")]
    seconds: float
    disk_bytes: int


class ReembeddingOut(Schema):
    """A re-embedding. `building`: its job works; `ready`: compare, then switch; `switched`: it can be rolled back until it is finished."""

    id: Id
    knowledge_base_id: Id
    state: ReembeddingState
    job_id: Annotated[Id | None, Field(description="null where a restore changed the model")]
    embedding_model: str
    former_model: str
    auto_switch: bool
    chunks_per_second: int | None
    switched_generation: Annotated[int | None, Field(description="the first generation in the new model")]
    rolls_back_id: Annotated[Id | None, Field(description="the re-embedding that this one takes back")]
    embedded: Annotated[int, Field(description="chunks that were embedded")]
    reused: Annotated[int, Field(description="chunks whose vectors in this model were there already")]
    missing_chunks: Annotated[int | None, Field(description="chunks that are not in the shadow yet; null when it is over")]
    stalled: Annotated[bool, Field(description="its job ended before it was done: retry the job, or cancel")]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, standing: Standing) -> Self:
        """The re-embedding as it is shown."""
        row = standing.row
        counted = {"job_id": row.job_id or None, "embedded": row.embedded_count, "reused": row.reused_count}
        found = {"missing_chunks": standing.missing_chunks, "stalled": standing.stalled}
        same = {name: getattr(row, name) for name in cls.model_fields if name not in (*counted, *found)}
        return cls.model_validate({**same, **counted, **found})


class JudgedOut(Schema):
    """Means over the questions that say which documents they expect; null where none does."""

    embedding_model: str
    ndcg: float | None
    recall: float | None


class AskedOut(Schema):
    """One question in both models. `overlap` is the part of all documents found that both found."""

    question: str
    overlap: float
    ndcg: float | None
    shadow_ndcg: float | None
    recall: float | None
    shadow_recall: float | None


class ComparedOut(Schema):
    """How the model that is searched now and the shadow did, by meaning alone, with at most 200 saved questions.

    `differences` are the 20 questions that got worst, or are answered most differently. `missing_chunks` were written since and are not
    in the shadow yet; a switch brings them.
    """

    generation: int
    question_count: int
    judged_count: int
    k: int
    overlap: float
    current: JudgedOut
    shadow: JudgedOut
    differences: tuple[AskedOut, ...]
    missing_chunks: int
