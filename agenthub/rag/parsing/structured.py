"""JSON and JSON lines: readable `path: value` lines, a block per object of a list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson

from agenthub.core.errors import UnsupportedDocument
from agenthub.rag.parsing.decoding import decode_text
from agenthub.rag.parsing.document import DocumentBuilder, ParsedDocument
from agenthub.rag.parsing.kinds import MEDIA_TYPES, Kind
from agenthub.rag.parsing.limits import ParsingLimits

_MAX_DEPTH: Final = 64
_TOO_DEEP: Final = f"the JSON is nested deeper than {_MAX_DEPTH} levels"
_OUT_OF_MEMORY: Final = "Not enough memory"
_PATH_CHARACTERS: Final = 300
_TITLE_KEYS: Final = ("title", "name")


def read_json(data: bytes, limits: ParsingLimits) -> ParsedDocument:
    """The values of a JSON file. Lists of objects become a block per object; the rest is grouped by object.

    Raises: UnsupportedDocument when it is not JSON or holds no text; PayloadTooLarge when over the limits.
    """
    text, encoding = decode_text(data)
    value = _parse(text, "the file is not valid JSON")
    builder = DocumentBuilder(limits)
    _emit(builder, value, "", 0)
    title = next((value[key] for key in _TITLE_KEYS if isinstance(value.get(key), str)), None) if isinstance(value, dict) else None
    return builder.finish(MEDIA_TYPES[Kind.JSON], title=title, metadata={"encoding": encoding})


def read_json_lines(data: bytes, limits: ParsingLimits) -> ParsedDocument:
    """A block per line of a JSON lines file.

    Raises: UnsupportedDocument naming the first line that is not JSON; PayloadTooLarge when over the limits.
    """
    text, encoding = decode_text(data)
    builder = DocumentBuilder(limits)
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            value = _parse(line, f"line {number} is not valid JSON")
            builder.add("row", "\n".join(_flatten(value, "", 0)), row=number)
    return builder.finish(MEDIA_TYPES[Kind.JSON_LINES], metadata={"encoding": encoding})


def _parse(text: str, complaint: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if error.msg.startswith(_OUT_OF_MEMORY):
            raise MemoryError from error
        raise UnsupportedDocument(f"{complaint}: {error.msg} at line {error.lineno}, column {error.colno}") from error


def _emit(builder: DocumentBuilder, value: Any, path: str, depth: int) -> None:
    """Add blocks for a value; objects and lists of objects are walked, everything else is flattened where it stands."""
    if depth >= _MAX_DEPTH:
        raise UnsupportedDocument(_TOO_DEEP)
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        _emit_items(builder, value, path, depth)
    elif isinstance(value, dict):
        _emit_object(builder, value, path, depth)
    else:
        builder.add("paragraph", "\n".join(_flatten(value, path, depth)))


def _emit_items(builder: DocumentBuilder, items: list[Any], path: str, depth: int) -> None:
    if path:
        builder.heading(path, depth)
    for number, item in enumerate(items, start=1):
        builder.add("row", "\n".join(_flatten(item, "", depth + 1)), row=number)
    if path:
        builder.leave_headings()


def _emit_object(builder: DocumentBuilder, value: dict[str, Any], path: str, depth: int) -> None:
    lines: list[str] = []
    for key, item in value.items():
        inner = _inner(path, key)
        if _is_record_list(item) or (isinstance(item, dict) and len(item) > 2):
            builder.add("paragraph", "\n".join(lines))
            lines.clear()
            _emit(builder, item, inner, depth + 1)
        else:
            lines.extend(_flatten(item, inner, depth + 1))
    builder.add("paragraph", "\n".join(lines))


def _is_record_list(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _flatten(value: Any, path: str, depth: int) -> Iterator[str]:
    """Lines `path: value`; lists of plain values stay in one line, nulls and empty texts are left out."""
    if depth >= _MAX_DEPTH:
        raise UnsupportedDocument(_TOO_DEEP)
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flatten(item, _inner(path, key), depth + 1)
    elif isinstance(value, list):
        yield from _flatten_list(value, path, depth)
    elif value is not None and value != "":
        yield _line(path, _scalar(value))


def _flatten_list(values: list[Any], path: str, depth: int) -> Iterator[str]:
    if not any(isinstance(item, (dict, list)) for item in values):
        text = ", ".join(_scalar(item) for item in values if item is not None and item != "")
        if text:
            yield _line(path, text)
        return
    for number, item in enumerate(values, start=1):
        yield from _flatten(item, f"{path}[{number}]", depth + 1)


def _inner(path: str, key: str) -> str:
    """The path to a member. Only the end of a very long one is kept: it stands in front of every value below."""
    return (f"{path}.{key}" if path else key)[-_PATH_CHARACTERS:]


def _line(path: str, text: str) -> str:
    return f"{path}: {text}" if path else text


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
