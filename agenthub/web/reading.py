"""What a client sent, read and checked: JSON and multipart bodies, query strings, path ids."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import Any, Final

from flask import current_app, request
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from agenthub.core.errors import InvalidInput, MalformedInput, NotFound, PayloadTooLarge
from agenthub.core.ids import is_id
from agenthub.core.json import dumps, loads_untrusted
from agenthub.web.declare import Body
from agenthub.web.texts import from_texts

_LONG_NUMBER: Final = re.compile(rb"[0-9]{19}")
_INT64: Final = range(-(2**63), 2**63)
_PIECE_BYTES: Final = 1024 * 1024
_SPOOL_BYTES: Final = 8 * 1024 * 1024
_MESSAGES: Final[Mapping[str, str]] = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
    "dict_type": "must be a JSON object",
    "finite_number": "must be finite",
}


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """One file of a multipart body. `filename` is the client's word: show it, never use it as a path."""

    field: str
    filename: str
    content_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Received:
    """A body as it was read. `sha256` is the same for a client's repeat, also when multipart boundaries differ."""

    arguments: Mapping[str, Any]
    sha256: str


def check_path(arguments: Mapping[str, Any], free: frozenset[str]) -> None:
    """Return if every `…_id` of the path has the form of an id, except those in `free`.

    Raises: NotFound for an id that can't exist; so a lookup never sees a strange one.
    """
    for name, value in arguments.items():
        if isinstance(value, int) and value not in _INT64:
            raise NotFound(f"no such {name.replace('_', ' ')}")
        if not isinstance(value, str):
            continue
        if "\x00" in value or (name.endswith("_id") and name not in free and not is_id(value)):
            raise NotFound(f"no such {name.removesuffix('_id').replace('_', ' ')}")


def read_query(model: type[BaseModel] | None) -> dict[str, Any]:
    """`{"query": …}`, the query string as a `model`; empty when the view takes none.

    Raises: InvalidInput, naming the parameter, when one is unknown, repeated or wrong.
    """
    if model is None:
        for name in request.args:
            raise InvalidInput("is not a known query parameter", field=name)
        return {}
    return {"query": validate(model, from_texts(model, request.args))}


def read_body(body: Body | None) -> Received:
    """The declared body. Nothing is buffered beyond the declared size.

    Raises: PayloadTooLarge, MalformedInput, InvalidInput naming the field.
    """
    if body is None:
        return Received({}, "")
    if body.max_bytes is not None:
        request.max_content_length = body.max_bytes
    elif body.stream:
        request.max_content_length = current_app.config["MAX_BUNDLE_BYTES"]
    try:
        return _read(body)
    except RequestEntityTooLarge as error:
        raise PayloadTooLarge(f"the body is larger than the {request.max_content_length} bytes taken here") from error
    except HTTPException as error:
        raise MalformedInput("the body can't be read") from error


def _read(body: Body) -> Received:
    if body.stream:
        return _read_stream()
    if body.form is not None and (body.json is None or request.mimetype == "multipart/form-data"):
        return _read_multipart(body, body.form)
    raw = request.get_data(cache=False, parse_form_data=False)
    if body.json is None:
        return Received({}, "")
    arguments: dict[str, Any] = {"body": read_json(body.json, raw)}
    if body.form is not None:
        arguments["files"] = ()
    return Received(arguments, hashlib.sha256(raw).hexdigest())


def _read_stream() -> Received:
    """The body in a temporary file, which is gone when it is closed."""
    spooled = SpooledTemporaryFile(_SPOOL_BYTES)  # noqa: SIM115 - the view closes it
    digest = hashlib.sha256()
    try:
        while piece := request.stream.read(_PIECE_BYTES):
            digest.update(piece)
            spooled.write(piece)
        spooled.seek(0)
    except BaseException:
        spooled.close()
        raise
    return Received({"stream": spooled}, digest.hexdigest())


def read_json(model: type[BaseModel], raw: bytes) -> BaseModel:
    """A valid `model` of JSON bytes; no bytes mean an empty object where every field has a default.

    Raises: MalformedInput when it is no JSON; InvalidInput naming the field.
    """
    if not raw.strip():
        if any(field.is_required() for field in model.model_fields.values()):
            raise MalformedInput("a JSON body is expected")
        raw = b"{}"
    value = loads_untrusted(raw)
    if _LONG_NUMBER.search(raw):
        _check_integers(value, "")
        raw = dumps(value)
    return validate(model, value, raw)


def _check_integers(value: Any, path: str) -> None:
    if isinstance(value, int) and value not in _INT64:
        raise InvalidInput("must fit 64 bits", field=path or None)
    if isinstance(value, dict):
        for key, item in value.items():
            _check_integers(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_integers(item, f"{path}[{index}]")


def _read_multipart(body: Body, form: type[BaseModel]) -> Received:
    if request.mimetype != "multipart/form-data":
        raise MalformedInput("a multipart/form-data body is expected")
    files = tuple(_uploaded(field, file) for field, file in request.files.items(multi=True))
    if len(files) > body.max_files:
        raise InvalidInput(f"at most {body.max_files} files are taken at once", field="files")
    fields = validate(form, from_texts(form, request.form))
    return Received({"body": fields, "files": files}, _digest_of(request.form, files))


def _uploaded(field: str, file: FileStorage) -> UploadedFile:
    name = file.filename or ""
    if "\x00" in name or len(name) > 1000:
        raise InvalidInput("the file's name is not acceptable", field=field)
    return UploadedFile(field, name, file.mimetype or "application/octet-stream", file.stream.read())


def _digest_of(fields: MultiDict[str, str], files: Sequence[UploadedFile]) -> str:
    parts = [hashlib.sha256(file.data).hexdigest() + "\x00" + file.filename + "\x00" + file.field for file in files]
    return hashlib.sha256(dumps([sorted(fields.items(multi=True)), parts])).hexdigest()


def validate(model: type[BaseModel], value: Any, raw: bytes | None = None) -> BaseModel:
    """A valid `model` of a JSON value (`raw` is the same as bytes, if at hand), taken strictly.

    Raises: InvalidInput naming the first field at fault, like `items[3].vector`.
    """
    try:
        return model.model_validate_json(dumps(value) if raw is None else raw, strict=True)
    except ValidationError as error:
        path, worst = _most_telling(error.errors(include_url=False, include_context=True, include_input=False), value)
        raise InvalidInput(_message(worst), field=path or None) from None


def _most_telling(errors: Sequence[ErrorDetails], value: Any) -> tuple[str, ErrorDetails]:
    """The first error; where it stands for one choice of several, the one of another choice that got deepest into the same input."""
    paths = [_path(error, value) for error in errors]
    deeper = [index for index, path in enumerate(paths) if path == paths[0] or path.startswith((f"{paths[0]}.", f"{paths[0]}["))]
    best = max(deeper, key=lambda index: (paths[index].count(".") + paths[index].count("["), -index))
    return paths[best], errors[best]


def _message(error: ErrorDetails) -> str:
    kind = error["type"]
    if kind in _MESSAGES:
        return _MESSAGES[kind]
    if kind == "value_error":
        return str(error.get("ctx", {}).get("error", "is not acceptable"))
    if kind == "string_pattern_mismatch":
        return "has characters or a form that is not accepted here"
    return error["msg"].replace("Input should", "must").replace("String should", "must").replace("Value error, ", "")


def _path(error: ErrorDetails, value: Any) -> str:
    """The path into the input; names that pydantic adds for unions and the like are left out."""
    path = ""
    for index, step in enumerate(error["loc"]):
        last = index == len(error["loc"]) - 1
        if isinstance(step, int):
            if isinstance(value, list) and step < len(value):
                path, value = f"{path}[{step}]", value[step]
        elif isinstance(value, dict) and (step in value or (last and error["type"] == "missing")):
            path, value = f"{path}.{step}" if path else step, value.get(step)
    return path


def max_upload_bytes() -> int:
    """The largest body this process takes."""
    limit: int = current_app.config["MAX_CONTENT_LENGTH"]
    return limit
