"""What a commit does that removes documents, FAQs among them: rows go, their chunks are hidden, no file is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from agenthub.repositories.knowledge.commits import Burial, Effect
from agenthub.repositories.knowledge.documents import Document, DocumentRepository


def removing(
    rows: DocumentRepository,
    documents: Sequence[Document],
    generation: int,
    now: datetime,
    result: Any,
    details: Mapping[str, Any] | None = None,
) -> Effect:
    """The effect of removing these, as they were read, in the generation that is being made; `result` answers the request."""
    writes = [write for document in documents for write in rows.removal(document, generation)]
    return Effect(
        result,
        "delete",
        burials=tuple(Burial("document", document.id) for document in documents),
        writes=(*writes, *(rows.audited(document, "delete", now) for document in documents)),
        documents_delta=-len(documents),
        chunks_delta=-sum(document.chunk_count for document in documents),
        size_delta_bytes=-sum(document.size_bytes for document in documents),
        details=details or {},
    )
