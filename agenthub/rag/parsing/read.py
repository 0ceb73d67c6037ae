"""One door to all parsers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Final

from agenthub.core.errors import PayloadTooLarge, UnsupportedDocument
from agenthub.rag.parsing.archives import DAMAGED, inspect_archive
from agenthub.rag.parsing.document import ParsedDocument
from agenthub.rag.parsing.kinds import Kind, detect_kind, require_promised
from agenthub.rag.parsing.limits import ParsingLimits

Parser = Callable[[bytes, ParsingLimits], ParsedDocument]

# A loader table, so that a process imports only the parser it needs: openpyxl alone takes 0.2 s.
_PARSERS: Final = {
    Kind.PDF: ("agenthub.rag.parsing.pdf", "read_pdf"),
    Kind.WORD: ("agenthub.rag.parsing.word", "read_word"),
    Kind.SPREADSHEET: ("agenthub.rag.parsing.spreadsheet", "read_spreadsheet"),
    Kind.SLIDES: ("agenthub.rag.parsing.slides", "read_slides"),
    Kind.HTML: ("agenthub.rag.parsing.html", "read_html"),
    Kind.MARKDOWN: ("agenthub.rag.parsing.markdown", "read_markdown"),
    Kind.DELIMITED: ("agenthub.rag.parsing.delimited", "read_delimited"),
    Kind.JSON: ("agenthub.rag.parsing.structured", "read_json"),
    Kind.JSON_LINES: ("agenthub.rag.parsing.structured", "read_json_lines"),
    Kind.PLAIN: ("agenthub.rag.parsing.plain", "read_plain"),
}


def read_document(data: bytes, filename: str, declared_type: str | None, limits: ParsingLimits) -> ParsedDocument:
    """The document in these bytes, read in this process: use `sandbox.parse_safely` for files from outside.

    Raises: UnsupportedDocument, with a reason for people, when it can't be read. PayloadTooLarge when it is over a limit.
    """
    if len(data) > limits.file_bytes:
        raise PayloadTooLarge(f"the file is larger than {limits.file_bytes:,} bytes")
    with _refusing(limits):
        kind = detect_kind(data, filename, declared_type)
        if kind is Kind.OFFICE:
            kind = inspect_archive(data, limits)
            require_promised(kind, filename)
    # Outside: a parser that is not installed is no fault of the document.
    parser = load_parser(kind)
    with _refusing(limits):
        return parser(data, limits)


def load_parser(kind: Kind) -> Parser:
    """What reads documents of this kind. Raises: ImportError when it is not installed."""
    module, function = _PARSERS[kind]
    parser: Parser = getattr(import_module(module), function)
    return parser


@contextmanager
def _refusing(limits: ParsingLimits) -> Iterator[None]:
    """Turn whatever reading a damaged file leads to into a refusal."""
    try:
        yield
    except (UnsupportedDocument, PayloadTooLarge):
        raise
    except MemoryError as error:
        raise UnsupportedDocument(f"reading the file needs more than {limits.memory_bytes // 2**20} MiB of memory") from error
    except Exception as error:
        # Parsers of other people's formats raise anything: KeyError, LookupError, RecursionError, lxml's own.
        raise UnsupportedDocument(DAMAGED) from error
