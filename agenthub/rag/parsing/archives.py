"""What must be true of a zip-based document before any parser opens it (RELIABILITY.md D2-11)."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from typing import Final
from xml.parsers import expat

from agenthub.core.errors import PayloadTooLarge, UnsupportedDocument
from agenthub.rag.parsing.kinds import Kind, is_archive
from agenthub.rag.parsing.limits import ParsingLimits

DAMAGED: Final = "the file is damaged or incomplete"
_STEP_BYTES: Final = 256 * 1024
# A ratio says nothing about a small part: 10 kB of blanks shrink a thousandfold and harm nobody.
_RATIO_FREE_BYTES: Final = 1_000_000
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
# Charts carry their workbook, documents their embedded ones. AgentHub never opens these, so they can't unfold.
_EMBEDDED: Final = re.compile(r"(?:word|ppt|xl)/embeddings/[^/]+\.(?:docx|xlsx|xlsm|xlsb|pptx|bin)\Z", re.IGNORECASE)
_MAIN_TYPES: Final = (
    (Kind.WORD, b"wordprocessingml.document.main+xml"),
    (Kind.WORD, b"wordprocessingml.template.main+xml"),
    (Kind.WORD, b"ms-word.document.macroEnabled.main+xml"),
    (Kind.SPREADSHEET, b"spreadsheetml.sheet.main+xml"),
    (Kind.SPREADSHEET, b"spreadsheetml.template.main+xml"),
    (Kind.SPREADSHEET, b"ms-excel.sheet.macroEnabled.main+xml"),
    (Kind.SLIDES, b"presentationml.presentation.main+xml"),
    (Kind.SLIDES, b"presentationml.slideshow.main+xml"),
    (Kind.SLIDES, b"presentationml.template.main+xml"),
    (Kind.SLIDES, b"ms-powerpoint.presentation.macroEnabled.main+xml"),
)


def inspect_archive(data: bytes, limits: ParsingLimits) -> Kind:
    """Which Office document the archive is, after every entry was unpacked once, in small steps, and thrown away.

    Raises: PayloadTooLarge for too many entries, too much or too highly compressed content. UnsupportedDocument for a
    damaged or encrypted archive, one in an archive, unsafe names, XML with a DOCTYPE, and archives that are no document.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _check_entries(entries, limits)
            unpacked = sum(_check_content(archive, entry, limits) for entry in entries)
            if unpacked > limits.archive_bytes:
                raise PayloadTooLarge(_too_much(limits))
            return _office_kind(archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, KeyError, OSError) as error:
        raise UnsupportedDocument(DAMAGED) from error


def _check_entries(entries: list[zipfile.ZipInfo], limits: ParsingLimits) -> None:
    if len(entries) > limits.archive_entries:
        raise PayloadTooLarge(f"the file holds more than {limits.archive_entries:,} parts")
    if sum(entry.file_size for entry in entries) > limits.archive_bytes:
        raise PayloadTooLarge(_too_much(limits))
    names = [entry.filename for entry in entries]
    if len(set(names)) != len(names) or not all(_is_safe(name) for name in names):
        raise UnsupportedDocument("the file has parts with unsafe or repeated names")
    if any(entry.flag_bits & 0x1 for entry in entries):
        raise UnsupportedDocument("the file is encrypted: remove its password and upload it again")
    if any(entry.compress_type not in _METHODS for entry in entries):
        raise UnsupportedDocument("the file is packed in a way that Office documents are not")


def _is_safe(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return not (name.startswith(("/", "\\")) or ":" in parts[0] or ".." in parts or "\x00" in name)


def _check_content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limits: ParsingLimits) -> int:
    """Unpack one entry to nothing and return its true length; zipfile checks its CRC at the end."""
    length = 0
    parser: expat.XMLParserType | None = None
    with archive.open(entry) as stream:
        while step := stream.read(_STEP_BYTES):
            if not length:
                _check_head(entry.filename, step)
                parser = _prolog_parser() if _is_xml(entry.filename, step) else None
            length += len(step)
            _check_growth(length, entry, limits)
            parser = _feed(parser, step)
    if length != entry.file_size:
        raise UnsupportedDocument(DAMAGED)
    return length


def _check_growth(length: int, entry: zipfile.ZipInfo, limits: ParsingLimits) -> None:
    if length > limits.archive_bytes:
        raise PayloadTooLarge(_too_much(limits))
    if length > _RATIO_FREE_BYTES and length > limits.archive_ratio * max(entry.compress_size, 1):
        raise PayloadTooLarge(f"a part of the file is compressed more than {limits.archive_ratio}:1, as in a zip bomb")


def _check_head(name: str, head: bytes) -> None:
    if is_archive(head) and not _EMBEDDED.match(name):
        raise UnsupportedDocument("the file holds an archive inside the archive")


def _is_xml(name: str, head: bytes) -> bool:
    start = head.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n\x00")
    return name.lower().endswith((".xml", ".rels", ".vml")) or start.startswith((b"<?xml", b"<!", b"<\x00?\x00", b"<\x00!\x00"))


class _RootReached(Exception):
    """The prolog is over: no DOCTYPE can follow."""


def _prolog_parser() -> expat.XMLParserType:
    """An expat parser that stops at the root element and refuses a DOCTYPE before it, in any encoding expat knows."""
    parser = expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise UnsupportedDocument("the file holds XML with a DOCTYPE, which Office documents never have")

    def stop(*_: object) -> None:
        raise _RootReached

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = stop
    return parser


def _feed(parser: expat.XMLParserType | None, data: bytes) -> expat.XMLParserType | None:
    """Go on reading the prolog; None once it is over."""
    if parser is None:
        return None
    try:
        parser.Parse(data, False)
    except _RootReached:
        return None
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise UnsupportedDocument(f"{DAMAGED}: a part is not well-formed XML") from error
    return parser


def _office_kind(archive: zipfile.ZipFile) -> Kind:
    names = set(archive.namelist())
    if "[Content_Types].xml" not in names:
        raise UnsupportedDocument("the file is a zip archive, not a document AgentHub reads")
    types = archive.read("[Content_Types].xml")
    for kind, main_type in _MAIN_TYPES:
        if main_type in types:
            return kind
    raise UnsupportedDocument("the file is an Office file of a kind AgentHub does not read: save it as .docx, .xlsx or .pptx")


def _too_much(limits: ParsingLimits) -> str:
    return f"the file unpacks to more than {limits.archive_bytes:,} bytes"
