"""Which kind of document some bytes are: what they begin with, what the name says, and whether the two agree."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from agenthub.core.errors import UnsupportedDocument


class Kind(StrEnum):
    """The kinds AgentHub reads. `OFFICE` is a zip archive before its content has been looked at."""

    PDF = "pdf"
    OFFICE = "office"
    WORD = "docx"
    SPREADSHEET = "xlsx"
    SLIDES = "pptx"
    HTML = "html"
    MARKDOWN = "markdown"
    DELIMITED = "csv"
    JSON = "json"
    JSON_LINES = "jsonl"
    PLAIN = "text"


MEDIA_TYPES: Final = {
    Kind.PDF: "application/pdf",
    Kind.WORD: "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    Kind.SPREADSHEET: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    Kind.SLIDES: "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    Kind.HTML: "text/html",
    Kind.MARKDOWN: "text/markdown",
    Kind.DELIMITED: "text/csv",
    Kind.JSON: "application/json",
    Kind.JSON_LINES: "application/jsonl",
    Kind.PLAIN: "text/plain",
}
OFFICE_KINDS: Final = frozenset({Kind.WORD, Kind.SPREADSHEET, Kind.SLIDES})
_BINARY_KINDS: Final = OFFICE_KINDS | {Kind.PDF}
_EXTENSIONS: Final = {
    "pdf": Kind.PDF,
    **dict.fromkeys(("docx", "docm", "dotx"), Kind.WORD),
    **dict.fromkeys(("xlsx", "xlsm", "xltx"), Kind.SPREADSHEET),
    **dict.fromkeys(("pptx", "pptm", "ppsx", "potx"), Kind.SLIDES),
    **dict.fromkeys(("html", "htm", "xhtml"), Kind.HTML),
    **dict.fromkeys(("md", "markdown", "mdown", "mkd", "mdx"), Kind.MARKDOWN),
    **dict.fromkeys(("csv", "tsv", "tab"), Kind.DELIMITED),
    "json": Kind.JSON,
    **dict.fromkeys(("jsonl", "ndjson"), Kind.JSON_LINES),
    **dict.fromkeys(("txt", "text", "log", "rst", "adoc", "asc"), Kind.PLAIN),
}
_DECLARED: Final = {
    **{media_type: kind for kind, media_type in MEDIA_TYPES.items()},
    "application/xhtml+xml": Kind.HTML,
    "text/x-markdown": Kind.MARKDOWN,
    "text/tab-separated-values": Kind.DELIMITED,
    "application/x-ndjson": Kind.JSON_LINES,
}
# Names that promise no readable text; their content is not looked at.
_REFUSED: Final = {
    **dict.fromkeys(("exe", "dll", "so", "bin", "com", "msi", "class", "jar", "pyc", "o"), "a program"),
    **dict.fromkeys(("zip", "gz", "tgz", "bz2", "xz", "7z", "rar", "tar", "zst"), "an archive"),
    **dict.fromkeys(("png", "jpg", "jpeg", "gif", "bmp", "tif", "tiff", "webp", "heic", "svg", "ico"), "an image"),
    **dict.fromkeys(("mp3", "mp4", "wav", "ogg", "avi", "mov", "mkv", "webm", "flac", "m4a"), "sound or video"),
    **dict.fromkeys(("doc", "xls", "ppt", "dot", "xlt", "pps"), "an old Office file: save it as .docx, .xlsx or .pptx"),
    **dict.fromkeys(("odt", "ods", "odp"), "an OpenDocument file: save it as .docx, .xlsx, .pptx or .pdf"),
    **dict.fromkeys(("xlsb", "epub", "rtf", "pages", "numbers", "key"), "a kind AgentHub does not read: save it as .pdf or .docx"),
}
_SIGNATURES: Final = (
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "a program"),
    (b"\xca\xfe\xba\xbe", "a program"),
    (b"\xcf\xfa\xed\xfe", "a program"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"SQLite format 3\x00", "a database"),
    (b"{\\rtf", "an RTF file: save it as .docx or .pdf"),
    (b"%!PS", "a PostScript file: save it as .pdf"),
    (b"OggS", "sound or video"),
    (b"ID3", "sound or video"),
    (b"wOF2", "a font"),
)  # fmt: skip
_COMPOUND: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ZIP_SIGNATURE: Final = b"PK\x03\x04"
# Some writers put a few bytes before the header, and readers accept it in the first 1,024 (ISO 32000-2, annex I).
_PDF_HEADER_WITHIN: Final = 1024


def detect_kind(data: bytes, filename: str, declared_type: str | None) -> Kind:
    """The kind of document, from its first bytes and its name; the declared media type only where the name says nothing.

    Raises: UnsupportedDocument when it is none that AgentHub reads, or when content and name contradict each other.
    """
    if not data.strip(b" \t\r\n\x00"):
        raise UnsupportedDocument("the file is empty")
    extension = extension_of(filename)
    if extension in _REFUSED:
        raise UnsupportedDocument(f"a .{extension} file is {_REFUSED[extension]}")
    named = _EXTENSIONS.get(extension)
    promised = named or _DECLARED.get((declared_type or "").partition(";")[0].strip().lower())
    found = _binary_kind(data)
    if found is None:
        return _text_kind(data, extension, promised)
    if promised is not None and promised is not found and not (found is Kind.OFFICE and promised in OFFICE_KINDS):
        raise UnsupportedDocument(_contradiction(extension, promised, "a zip archive" if found is Kind.OFFICE else "a PDF"))
    return found


def extension_of(filename: str) -> str:
    """What follows the last dot, in lower case; empty when there is none."""
    name = filename.replace("\\", "/").rpartition("/")[2]
    return name.rpartition(".")[2].strip().lower() if "." in name else ""


def require_promised(found: Kind, filename: str) -> None:
    """Check the content of an Office archive against its name.

    Raises: UnsupportedDocument when a name such as .docx stands on a spreadsheet.
    """
    promised = _EXTENSIONS.get(extension_of(filename))
    if promised is not None and promised is not found:
        raise UnsupportedDocument(_contradiction(extension_of(filename), promised, f"a .{found.value} document"))


def is_archive(head: bytes) -> bool:
    """Whether the bytes begin like an archive or a compressed file."""
    archives = (ZIP_SIGNATURE, b"PK\x05\x06", *(mark for mark, what in _SIGNATURES if what.endswith("archive")))
    return head.startswith(archives) or head[257:262] == b"ustar"


def _binary_kind(data: bytes) -> Kind | None:
    if data.startswith(ZIP_SIGNATURE):
        return Kind.OFFICE
    if data.startswith(_COMPOUND):
        raise UnsupportedDocument(_compound_reason(data))
    for mark, what in _SIGNATURES:
        if data.startswith(mark) and (len(mark) > 3 or b"\x00" in data[:512]):
            raise UnsupportedDocument(f"the file is {what}")
    return Kind.PDF if b"%PDF-" in data[:_PDF_HEADER_WITHIN] and _header_at_line_start(data) else None


def _header_at_line_start(data: bytes) -> bool:
    """A text that merely mentions "%PDF-" in a sentence is no PDF."""
    at = data.find(b"%PDF-")
    return at == 0 or data[at - 1 : at] in (b"\n", b"\r", b"\x00", b"\xbf") or b"\x00" in data[:at]


def _compound_reason(data: bytes) -> str:
    """An OLE container is a Word/Excel/PowerPoint file of before 2007, or the envelope of an encrypted one of today."""
    if "EncryptedPackage".encode("utf-16-le") in data:
        return "the file is encrypted: remove its password and upload it again"
    return "the file is an old Office file: save it as .docx, .xlsx or .pptx"


def _text_kind(data: bytes, extension: str, promised: Kind | None) -> Kind:
    if promised in _BINARY_KINDS:
        raise UnsupportedDocument(_contradiction(extension, promised, "something else"))
    if promised is not None and (extension in _EXTENSIONS or promised is not Kind.PLAIN):
        return promised
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return Kind.HTML if head.startswith((b"<!doctype html", b"<html")) else Kind.PLAIN


def _contradiction(extension: str, promised: Kind, found: str) -> str:
    name = f".{extension}" if extension else promised.value
    return f"the name says {name}, but the content is {found}: wrong type or damaged"
