"""What a bundle says, checked: nothing in it is believed before it has the right type, size and place."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from agenthub.core.errors import InvalidInput
from agenthub.core.ids import is_id
from agenthub.rag.analysis import languages
from agenthub.rag.bundle import MAX_PART_BYTES, READABLE_FORMATS, lines_of, read_object
from agenthub.rag.chunking import ChunkingSettings
from agenthub.rag.chunks import Chunk
from agenthub.rag.vectors import MAX_DIMENSION, unit_vectors
from agenthub.repositories.knowledge.documents import MAX_SOURCE_BYTES
from agenthub.repositories.knowledge.exporting import CHUNK_FIELDS, DOCUMENT_FIELDS, FAQ_FIELDS, HEAD_FIELDS, OPTIONAL_DOCUMENT_FIELDS
from agenthub.repositories.knowledge.faqs import MAX_ANSWER, MAX_CATEGORY, MAX_PRIORITY, MAX_QUESTION, MEDIA_TYPE, FaqText

MAX_DOCUMENTS: Final = 1_000_000
MAX_CHUNKS: Final = 20_000_000
_HEAD: Final = frozenset({"format", "exported_at", *HEAD_FIELDS})
_COUNTS: Final = range(2**53)
_NAME: Final = 200
_TEXT: Final = 20_000
_CHUNK_ID: Final = re.compile(r"[^\x00-\x1f\x7f]{1,128}\Z")


@dataclass(frozen=True, slots=True)
class Head:
    """What a bundle says of its knowledge base."""

    format: int
    name: str
    description: str
    embedding_model: str | None
    signature: str
    dimension: int
    language: str
    chunking: Mapping[str, Any]
    generation: int
    document_count: int
    chunk_count: int

    @classmethod
    def parse(cls, data: bytes) -> Head:
        """The head in these bytes.

        Raises: MalformedInput; InvalidInput saying what is wrong.
        """
        fields = _Checked(read_object(data, "bundle.json", _HEAD), "bundle.json")
        if fields.number("format") not in READABLE_FORMATS:
            raise InvalidInput("this bundle has a format that this version of AgentHub does not know")
        model = fields.optional_text("embedding_model", _NAME)
        head = cls(
            format=fields.number("format"),
            name=fields.text("name", _NAME),
            description=fields.text("description", _TEXT),
            embedding_model=model,
            signature=fields.text("signature", 1000),
            dimension=fields.number("dimension", range(1, MAX_DIMENSION + 1)),
            language=fields.text("language", 40),
            chunking=_chunking(fields.object("chunking")),
            generation=fields.number("generation"),
            document_count=fields.number("document_count", range(MAX_DOCUMENTS + 1)),
            chunk_count=fields.number("chunk_count", range(MAX_CHUNKS + 1)),
        )
        own = model is None and head.signature != f"client;dimension={head.dimension};metric=cosine;normalized"
        if head.language not in languages() or not head.name.strip() or own:
            raise InvalidInput("the bundle's language, name or signature is not acceptable")
        return head


@dataclass(frozen=True, slots=True)
class BundledDocument:
    """A document as a bundle tells of it; `id` is what its chunks call it. `faq` is set where it is a question with an answer."""

    id: str
    title: str
    filename: str | None
    media_type: str
    size_bytes: int
    sha256: str
    language: str | None
    page_count: int | None
    character_count: int
    chunk_count: int
    metadata: Mapping[str, Any]
    created_at: datetime
    faq: FaqText | None
    source: str | None
    content_key: str | None


def parse_documents(data: bytes, name: str, bundle_format: int) -> list[tuple[dict[str, Any], BundledDocument]]:
    """The documents of a part, as they are said and as they are taken.

    Raises: MalformedInput; InvalidInput.
    """
    fields = frozenset(DOCUMENT_FIELDS) | ({"faq"} if bundle_format > 1 else frozenset())
    optional = frozenset(OPTIONAL_DOCUMENT_FIELDS if bundle_format > 1 else ())
    said = [read_object(line, name, fields, optional) for line in lines_of(data, name)]
    return [(one, _document(_Checked(one, name))) for one in said]


def _document(fields: _Checked) -> BundledDocument:
    document = BundledDocument(
        id=fields.id("id"),
        title=fields.text("title", _TEXT),
        filename=fields.optional_text("filename", 255),
        media_type=fields.text("media_type", _NAME),
        size_bytes=fields.number("size_bytes"),
        sha256=fields.text("sha256", 64),
        language=fields.optional_text("language", 40),
        page_count=fields.optional_number("page_count"),
        character_count=fields.number("character_count"),
        chunk_count=fields.number("chunk_count", range(MAX_CHUNKS + 1)),
        metadata=fields.object("metadata"),
        created_at=fields.moment("created_at"),
        faq=_faq(fields),
        source=fields.optional_text("source", MAX_SOURCE_BYTES),
        content_key=fields.optional_text("content_key", 64),
    )
    if document.faq is not None:
        _check_faq(document, document.faq)
    return document


def _faq(fields: _Checked) -> FaqText | None:
    value = fields.optional_object("faq")
    if value is None:
        return None
    if value.keys() != set(FAQ_FIELDS):
        raise InvalidInput(f"the bundle is not well-formed: a faq should have the fields {', '.join(FAQ_FIELDS)}")
    faq = _Checked(value, "a faq")
    return FaqText(
        fields.text("title", MAX_QUESTION),
        faq.text("answer", MAX_ANSWER),
        faq.optional_text("category", MAX_CATEGORY),
        faq.number("priority", range(MAX_PRIORITY + 1)),
        fields.object("metadata"),
    )


def _check_faq(document: BundledDocument, faq: FaqText) -> None:
    """Raises: InvalidInput when the document doesn't say of itself what its question and answer say."""
    data = faq.encoded()
    said = (document.sha256, document.size_bytes, document.media_type, document.chunk_count)
    if said != (sha256_of(data), len(data), MEDIA_TYPE, 1):
        raise InvalidInput("a FAQ in the bundle is not what its document says")


def parse_chunks(data: bytes, name: str, documents: Mapping[str, str]) -> list[Chunk]:
    """The chunks of a part; `documents` are those they may belong to.

    Raises: MalformedInput; InvalidInput.
    """
    return [_chunk(_Checked(read_object(line, name, frozenset(CHUNK_FIELDS)), name), documents) for line in lines_of(data, name)]


def _chunk(fields: _Checked, documents: Mapping[str, str]) -> Chunk:
    document_id = fields.optional_text("document_id", 64)
    chunk_id = fields.text("id", 128)
    if document_id is not None and document_id not in documents:
        raise InvalidInput("a chunk of the bundle belongs to a document that is not in it")
    if not _CHUNK_ID.match(chunk_id):
        raise InvalidInput("a chunk of the bundle has an id that is not acceptable")
    texts = fields.text("text", MAX_PART_BYTES), fields.text("context", MAX_PART_BYTES)
    return Chunk(chunk_id, document_id, texts[0], fields.object("metadata"), texts[1])


def parse_vectors(data: bytes, count: int, dimension: int) -> NDArray[np.float32]:
    """The vectors of a part: finite, of length 1, as many as there are chunks.

    Raises: InvalidInput.
    """
    if len(data) != count * dimension * 4:
        raise InvalidInput("the bundle has vectors of another dimension, or not one for every chunk")
    vectors = np.frombuffer(data, dtype="<f4").reshape(count, dimension)
    if unit_vectors(vectors, "vectors[{}]").tobytes() != data:
        raise InvalidInput("the bundle has vectors that are not of length 1")
    return vectors.astype(np.float32, copy=False)


def check_original(document: BundledDocument, data_sha256: str, length_bytes: int) -> None:
    """Return if these are the bytes that the document says were uploaded.

    Raises: InvalidInput when not.
    """
    if (document.sha256, document.size_bytes) != (data_sha256, length_bytes):
        raise InvalidInput("an original in the bundle is not what its document says")


def sha256_of(data: bytes) -> str:
    """The hash of bytes, hex."""
    return hashlib.sha256(data).hexdigest()


def _chunking(value: Mapping[str, Any]) -> Mapping[str, Any]:
    fields = _Checked(value, "bundle.json: chunking")
    settings = {name: fields.number(name) for name in ("max_characters", "overlap_characters")}
    strategy = fields.text("strategy", 40)
    if value.keys() != {"strategy", "version", *settings}:
        raise InvalidInput("the bundle's chunking settings are not known here")
    version = value["version"]
    if not isinstance(version, str | int) or len(str(version)) > 40:
        raise InvalidInput("the bundle's chunking settings are not acceptable")
    ChunkingSettings(strategy=strategy, **settings)  # type: ignore[arg-type] # it checks the word itself
    return dict(value)


class _Checked:
    """Fields of JSON from outside, taken by type and size. Every method raises InvalidInput naming the field."""

    def __init__(self, value: Mapping[str, Any], source: str) -> None:
        self._value = value
        self._source = source

    def text(self, name: str, most: int) -> str:
        value = self._value.get(name)
        if not isinstance(value, str) or len(value) > most:
            raise self._wrong(name)
        return value

    def optional_text(self, name: str, most: int) -> str | None:
        return None if self._value.get(name) is None else self.text(name, most)

    def number(self, name: str, within: Sequence[int] = _COUNTS) -> int:
        value = self._value.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value not in within:
            raise self._wrong(name)
        return value

    def optional_number(self, name: str) -> int | None:
        return None if self._value.get(name) is None else self.number(name)

    def object(self, name: str) -> dict[str, Any]:
        value = self._value.get(name)
        if not isinstance(value, dict):
            raise self._wrong(name)
        return value

    def optional_object(self, name: str) -> dict[str, Any] | None:
        return None if self._value.get(name) is None else self.object(name)

    def id(self, name: str) -> str:
        value = self.text(name, 26)
        if not is_id(value):
            raise self._wrong(name)
        return value

    def moment(self, name: str) -> datetime:
        try:
            value = datetime.fromisoformat(self.text(name, 40))
        except ValueError as error:
            raise self._wrong(name) from error
        if value.tzinfo is None:
            raise self._wrong(name)
        return value

    def _wrong(self, name: str) -> InvalidInput:
        return InvalidInput(f"the bundle is not well-formed: {self._source} has an unacceptable {name}")
