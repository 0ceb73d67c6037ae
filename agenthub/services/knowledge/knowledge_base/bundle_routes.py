"""HTTP routes of bundles: a knowledge base out and in as one file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, BinaryIO, Final

from flask import Blueprint, Response
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from agenthub.repositories.knowledge.bundle_contents import Head
from agenthub.repositories.knowledge.exporting import Content, Exports
from agenthub.repositories.knowledge.history import History
from agenthub.repositories.knowledge.importing import Imported, Imports
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.models import check_signature
from agenthub.services.knowledge.knowledge_base.schemas import KnowledgeBaseOut
from agenthub.web.access import operation, principal, repository, resources
from agenthub.web.answers import Answer
from agenthub.web.declare import accepts_stream, refuses, requires, returns, serves, takes
from agenthub.web.schema import Name, Schema

bp = Blueprint("bundles", __name__)
_MEDIA_TYPE: Final = "application/x-tar"
_GENERATION: Final = "X-KB-Generation"
_HEADERS: Final = {_GENERATION: "the generation of the bundle"}


class ExportQuery(Schema):
    """Which generation to export; the current one if none is given."""

    generation: Annotated[
        Annotated[int, Field(ge=1, le=2**53)] | SkipJsonSchema[None], Field(description="410 when it is no longer kept")
    ] = None


class ImportQuery(Schema):
    """What to call the new knowledge base; as the bundle says if nothing is given."""

    name: Annotated[Name | SkipJsonSchema[None], Field(description="the new knowledge base's name")] = None


class ContentOut(Schema):
    """What a generation holds. `content_sha256` is the same for the same documents, chunks and vectors, wherever they are."""

    generation: int
    document_count: int
    chunk_count: int
    content_sha256: str


class ImportedOut(Schema):
    """The new knowledge base, and the digest of what it holds: the one its export reported."""

    knowledge_base: KnowledgeBaseOut
    content_sha256: str


def _generation(knowledge_base_id: str, generation: int | None) -> KnowledgeBase:
    base = repository(KnowledgeBaseRepository).get(principal().tenant_id, knowledge_base_id)
    return base if generation is None else History(resources().storage).at(base, generation)


@bp.get("/<knowledge_base_id>/export")
@requires("documents:read")
@takes(ExportQuery)
@serves(_MEDIA_TYPE, "the bundle; one that breaks off is refused by every import")
@refuses("not_retained")
def export_knowledge_base(knowledge_base_id: str, query: ExportQuery) -> Response:
    """Export one generation as one verified file: documents, originals, chunks and vectors. Others may write meanwhile."""
    old = _generation(knowledge_base_id, query.generation)
    pieces = Exports(resources().storage, resources().knowledge).bundle(old)
    first = next(pieces)  # what can't be exported is refused before the answer begins
    response = Response(_from_first(first, pieces), mimetype=_MEDIA_TYPE)
    response.headers["Content-Disposition"] = f'attachment; filename="{old.id}-{old.generation}.tar"'
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response.headers[_GENERATION] = str(old.generation)
    response.call_on_close(pieces.close)
    return response


def _from_first(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


@bp.get("/<knowledge_base_id>/generations/<int:generation>/content")
@requires("documents:read")
@returns(ContentOut)
@refuses("not_retained")
def digest_generation(knowledge_base_id: str, generation: int) -> Content:
    """Read a whole generation and say what it holds: to compare knowledge bases, also across deployments."""
    return Exports(resources().storage, resources().knowledge).digest(_generation(knowledge_base_id, generation))


@bp.post("/import")
@requires("knowledge-bases:write")
@accepts_stream(_MEDIA_TYPE, "a bundle as an export answered it")
@takes(ImportQuery)
@returns(ImportedOut, status=201, headers=_HEADERS)
@refuses("malformed_input", "payload_too_large", "model_mismatch", "volume_full")
def import_knowledge_base(stream: BinaryIO, query: ImportQuery) -> object:
    """Make a new knowledge base of a bundle. Nothing is embedded; everything is checked first, and a refusal leaves nothing."""
    caller, most = principal(), resources().settings.web.max_body_bytes
    imports = Imports(resources().storage, resources().knowledge, operation(), most_original_bytes=most)
    with stream:
        return imports.take(caller.tenant_id, caller.user_id, stream, query.name, _check, _imported)


def _check(head: Head) -> None:
    check_signature(resources().embedders, head.embedding_model, head.signature)


def _imported(imported: Imported) -> Answer:
    return Answer(imported, 201, {_GENERATION: str(imported.knowledge_base.generation)})
