"""What views answer, and how it becomes bytes: only declared fields leave the process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from flask import Response
from pydantic import BaseModel

from agenthub.repositories.base import Page
from agenthub.web.declare import Answered, Declaration


@dataclass(frozen=True, slots=True)
class Answer:
    """A view's answer with another status than the declared one, or with headers."""

    value: Any
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Raw:
    """JSON bytes that the view made itself, in the declared shape."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Attachment:
    """Bytes to be saved, never shown: the browser is told to download them."""

    data: bytes
    filename: str
    media_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Rendered:
    """An answer as bytes."""

    status: int
    body: bytes
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        """The Flask response."""
        response = Response(self.body, self.status, mimetype=self.media_type if self.body else None)
        if not self.body:
            response.headers.pop("Content-Type", None)
        response.headers.extend(dict(self.headers))
        return response


def render(declaration: Declaration, result: Any) -> Rendered:
    """A view's result in its declared shape.

    Raises: pydantic's ValidationError, a programming error, when the result does not have that shape.
    """
    answer = result if isinstance(result, Answer) else Answer(result)
    answered = _answered(declaration, answer.status)
    if isinstance(answer.value, Attachment):
        return _attachment(answer.value, answered.status, answer.headers)
    if isinstance(answer.value, Raw):
        return Rendered(answered.status, answer.value.data, answered.media_type, answer.headers)
    if answered.model is None:
        return Rendered(answered.status, b"", answered.media_type, answer.headers)
    return Rendered(answered.status, _dump(answered.model, answer.value), answered.media_type, answer.headers)


def render_for_repeats(declaration: Declaration, result: Any) -> tuple[int, bytes, Mapping[str, str]]:
    """The status, body and headers to give to repeats of the request: as `render`, without the secrets that are shown once."""
    answer = result if isinstance(result, Answer) else Answer(result)
    model = _answered(declaration, answer.status).model
    hidden = _shown_once(model) if model is not None else {}
    if model is not None and hidden and not isinstance(answer.value, Raw):
        shown = _load(model, answer.value).model_copy(update=hidden)
        result = Answer(shown, answer.status, answer.headers)
    rendered = render(declaration, result)
    return rendered.status, rendered.body, rendered.headers


def _answered(declaration: Declaration, status: int | None) -> Answered:
    if not declaration.answers:
        return Answered(status or 204, None)
    if status is None:
        return declaration.answers[0]
    return declaration.answer(status) or Answered(status, declaration.answers[0].model)


def _load(model: type[BaseModel], value: Any) -> BaseModel:
    if isinstance(value, model):
        return value
    if isinstance(value, Page):
        value = {"items": value.items, "next_cursor": value.next_cursor}
    return model.model_validate(value, from_attributes=True, extra="ignore")


def _dump(model: type[BaseModel], value: Any) -> bytes:
    loaded = _load(model, value)
    return loaded.__pydantic_serializer__.to_json(loaded)


def _shown_once(model: type[BaseModel]) -> dict[str, None]:
    extras = {name: info.json_schema_extra for name, info in model.model_fields.items()}
    return {name: None for name, extra in extras.items() if isinstance(extra, dict) and extra.get("x-shown-once")}


def _attachment(file: Attachment, status: int, headers: Mapping[str, str]) -> Rendered:
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\/%;' else "_" for c in file.filename)[:200]
    disposition = f"attachment; filename=\"{plain or 'download'}\"; filename*=UTF-8''{quote(file.filename[:200], safe='')}"
    sandbox = {"Content-Disposition": disposition, "Content-Security-Policy": "sandbox; default-src 'none'"}
    return Rendered(status, file.data, file.media_type, {**sandbox, **headers})
