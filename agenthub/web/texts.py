"""Texts of query strings and form fields, turned into the JSON values their schema asks for."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from pydantic import BaseModel
from werkzeug.datastructures import MultiDict

from agenthub.core.errors import InvalidInput, MalformedInput
from agenthub.core.json import loads_untrusted

_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,18})\Z")
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?\Z")
_BOOLEANS: Final = {"true": True, "false": False}

Kind = str
"""`integer`, `number`, `boolean`, `string`, `json`, or one of them after `array of `."""


def from_texts(model: type[BaseModel], texts: MultiDict[str, str]) -> dict[str, Any]:
    """A JSON object for `model`: numbers and booleans read by their schema, objects from JSON, repeated names as lists.

    Raises: InvalidInput, naming the parameter, when a text is not of its type or is given twice.
    """
    kinds = _kinds(model)
    return {name: _value(name, texts.getlist(name), kinds.get(name, "string")) for name in texts}


def _value(name: str, values: list[str], kind: Kind) -> Any:
    if any("\x00" in value for value in values):
        raise InvalidInput("NUL characters are not accepted", field=name)
    if kind.startswith("array of "):
        return [_one(name, value, kind.removeprefix("array of ")) for value in values]
    if len(values) > 1:
        raise InvalidInput("is given more than once", field=name)
    return _one(name, values[0], kind)


def _one(name: str, text: str, kind: Kind) -> Any:
    if kind == "integer":
        if not _INTEGER.match(text):
            raise InvalidInput("must be a whole number", field=name)
        return int(text)
    if kind == "number":
        if not _NUMBER.match(text) or not math.isfinite(float(text)):
            raise InvalidInput("must be a number", field=name)
        return float(text)
    if kind == "boolean":
        if text not in _BOOLEANS:
            raise InvalidInput("must be true or false", field=name)
        return _BOOLEANS[text]
    return _json(name, text) if kind == "json" else text


def _json(name: str, text: str) -> Any:
    try:
        return loads_untrusted(text.encode())
    except (MalformedInput, InvalidInput, UnicodeEncodeError) as error:
        raise InvalidInput("must be JSON", field=name) from error


@lru_cache(maxsize=512)
def _kinds(model: type[BaseModel]) -> Mapping[str, Kind]:
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    return {name: _kind(part, definitions) for name, part in schema.get("properties", {}).items()}


def _kind(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Kind:
    if "$ref" in schema:
        return _kind(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    options = [_kind(part, definitions) for part in schema.get("anyOf", ()) if part.get("type") != "null"]
    if options:
        return options[0] if len(set(options)) == 1 else "string"
    if schema.get("type") == "array":
        return "array of " + _kind(schema.get("items", {}), definitions)
    if schema.get("type") == "object":
        return "json"
    return str(schema.get("type", "string"))
