"""Request and answer shapes of verifying."""

from __future__ import annotations

from pydantic import Field

from agenthub.repositories.knowledge.inspecting import MOST_PROBLEMS, ProblemKind
from agenthub.web.schema import Schema


class VerifyIn(Schema):
    """Which generation to verify (the current one unless given), and from which segment on."""

    generation: int | None = Field(default=None, ge=1)
    first_segment: int = Field(default=0, ge=0, le=1_000_000)


class ProblemOut(Schema):
    """Something that does not fit: `truth` is lost unless another copy exists, `derived` can be made again."""

    kind: ProblemKind
    message: str
    segment_id: str | None
    document_id: str | None
    file: str | None


class VerifyOut(Schema):
    """What was seen. Counts, documents and originals were compared only where `complete` is true."""

    generation: int
    intact: bool
    complete: bool
    segment_count: int
    checked_segments: int
    checked_bytes: int
    checked_documents: int
    next_segment: int | None = Field(description="send it as `first_segment`, with the generation, to go on")
    problem_count: int
    problems: list[ProblemOut] = Field(description=f"the first {MOST_PROBLEMS}")
