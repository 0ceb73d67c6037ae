"""Makes the golden bundle of the present format: `python -m tests.rag.golden_bundle FILE`. Run once per format; never again after."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

from agenthub.core.json import canonical
from agenthub.rag.bundle import BUNDLE_FORMAT, HEAD, BundleWriter, ContentDigest, json_line, part_name
from agenthub.rag.chunks import Chunk

SIGNATURE = "client;dimension=4;metric=cosine;normalized"
ORIGINAL = b"The lighthouse keeper lit the lamp at dusk.\n"
DOCUMENT: dict[str, Any] = {
    "id": "01jdc0zf000000000000000001",
    "title": "Keeper",
    "filename": "keeper.txt",
    "media_type": "text/plain",
    "size_bytes": len(ORIGINAL),
    "sha256": hashlib.sha256(ORIGINAL).hexdigest(),
    "language": "en",
    "page_count": None,
    "character_count": 43,
    "chunk_count": 1,
    "metadata": {"shelf": 3},
    "created_at": "2026-01-31T12:00:00Z",
}
FAQ = {"answer": "At dusk.", "category": "Sea", "priority": 2}
SAID = canonical({**FAQ, "question": "When is the lamp lit?", "metadata": {}})
QUESTION: dict[str, Any] = {
    **DOCUMENT,
    "id": "01jdc0zf000000000000000002",
    "title": "When is the lamp lit?",
    "filename": None,
    "media_type": "application/vnd.agenthub.faq+json",
    "size_bytes": len(SAID),
    "sha256": hashlib.sha256(SAID).hexdigest(),
    "language": None,
    "character_count": 30,
    "metadata": {},
    "faq": FAQ,
}
CHUNKS = [
    Chunk("01a", DOCUMENT["id"], "The lighthouse keeper lit the lamp at dusk.", {"position": 0, "shelf": 3}),
    Chunk("own", None, "A chunk of nobody's document.", {}),
    Chunk("01b", QUESTION["id"], "At dusk.", {"kind": "faq", "question": "When is the lamp lit?", "priority": 2}, "When is the lamp lit?"),
]
VECTORS = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], dtype="<f4")


def main(path: Path) -> None:
    """Write the bundle."""
    number: int = BUNDLE_FORMAT
    documents = [DOCUMENT] if number == 1 else [{**DOCUMENT, "faq": None}, QUESTION]
    count = len(documents) + 1
    writer, digest = BundleWriter(), ContentDigest(SIGNATURE, 4, "english")
    head = {"name": "Golden", "description": "", "embedding_model": None, "signature": SIGNATURE, "dimension": 4, "language": "english"}
    chunking = {"strategy": "structure", "version": "1", "max_characters": 1000, "overlap_characters": 100}
    counts = {"document_count": len(documents), "chunk_count": count}
    whole = {"format": BUNDLE_FORMAT, **head, "chunking": chunking, "generation": 3, **counts, "exported_at": "2026-01-31T12:00:00Z"}
    pieces = [writer.member(HEAD, json_line(whole)), writer.member(f"originals/{DOCUMENT['id']}", ORIGINAL)]
    for document in documents:
        digest.add_document(document["id"], document)
    pieces.append(writer.member(part_name("documents", 1), b"".join(json_line(document) for document in documents)))
    digest.add_chunks(CHUNKS[:count], VECTORS[:count])
    lines = [{name: getattr(chunk, name) for name in ("id", "document_id", "text", "context", "metadata")} for chunk in CHUNKS[:count]]
    pieces.append(writer.member(part_name("chunks", 1), b"".join(json_line(line) for line in lines)))
    pieces.append(writer.member(part_name("vectors", 1), VECTORS[:count].tobytes()))
    path.write_bytes(b"".join([*pieces, writer.end({**counts, "content_sha256": digest.hexdigest()})]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
