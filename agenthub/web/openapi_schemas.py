"""The schemas of the OpenAPI document: pydantic's, told the limits that hold for every request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from agenthub.core.ids import ID_PATTERN
from agenthub.web.declare import Declaration
from agenthub.web.schema import NO_NUL, ONE_LINE

Mode = Literal["validation", "serialization"]
_PREFIX: Final = "#/components/schemas/"
_DATA_KEYS: Final = frozenset({"default", "examples", "example", "enum", "const", "required"})
_INT64: Final = 2**63 - 1
_JSON: Final = "JsonValue"
EXAMPLE_ID: Final = "01k9zv3f7q3m8x1c5t2b6n4d0e"
_EXAMPLES: Final = {NO_NUL: "text", ONE_LINE: "A name", ID_PATTERN: EXAMPLE_ID}
_JSON_VALUE: Final[Mapping[str, Any]] = {
    "description": "Any JSON without NUL characters and integers beyond 64 bits, at most 32 levels deep.",
    "anyOf": [
        {"type": "null"},
        {"type": "boolean"},
        {"type": "integer", "minimum": -_INT64 - 1, "maximum": _INT64},
        {"type": "number"},
        {"type": "string", "pattern": NO_NUL},
        {"type": "array", "items": {"$ref": _PREFIX + _JSON}},
        {"type": "object", "propertyNames": {"pattern": NO_NUL}, "additionalProperties": {"$ref": _PREFIX + _JSON}},
    ],
}


class SchemaBook:
    """All schemas of one document by model and mode."""

    def __init__(self, declarations: Sequence[Declaration], error: type[BaseModel]) -> None:
        wanted = list(dict.fromkeys([*_wanted(declarations), (error, "serialization")]))
        self._references, whole = models_json_schema(wanted, ref_template=_PREFIX + "{model}")
        self._definitions: dict[str, Any] = whole.get("$defs", {})
        asked = self._reachable([self._references[model, mode] for model, mode in wanted if mode == "validation"])
        for name, definition in self._definitions.items():
            _tidy(definition, asked=name in asked)
        self._inlined = {self._name(model, "validation") for model in _inlined(declarations)}
        self._definitions[_JSON] = dict(_JSON_VALUE)

    def schemas(self) -> dict[str, Any]:
        """The named schemas; those of query strings and forms are spelled out where they are used."""
        used = self._reachable([definition for name, definition in self._definitions.items() if name not in self._inlined])
        kept = {name: schema for name, schema in self._definitions.items() if name not in self._inlined or name in used}
        return dict(sorted(kept.items()))

    def reference(self, model: type[BaseModel], mode: Mode) -> dict[str, Any]:
        """The reference to a model's schema."""
        return dict(self._references[model, mode])

    def parameters(self, model: type[BaseModel]) -> list[dict[str, Any]]:
        """The query parameters that a model describes. A query string has no null: to leave a parameter out says the same."""
        definition = self._definition(model)
        parameters = []
        for name, schema in definition.get("properties", {}).items():
            shown = _without_null(schema)
            parameter = {"name": name, "in": "query", "required": name in definition.get("required", ()), "schema": shown}
            if "description" in shown:
                parameter["description"] = shown.pop("description")
            parameters.append(parameter)
        return parameters

    def form(self, model: type[BaseModel], max_files: int) -> dict[str, Any]:
        """The multipart schema of a form with files."""
        definition = self._definition(model)
        properties = {name: _without_null(schema) for name, schema in definition.get("properties", {}).items()}
        files = {"type": "array", "minItems": 1, "maxItems": max_files, "items": {"type": "string", "format": "binary"}}
        required = [*definition.get("required", ()), "files"]
        return {"type": "object", "properties": {**properties, "files": files}, "required": required, "additionalProperties": False}

    def _definition(self, model: type[BaseModel]) -> dict[str, Any]:
        found: dict[str, Any] = self._definitions[self._name(model, "validation")]
        return found

    def _name(self, model: type[BaseModel], mode: Mode) -> str:
        reference: str = self._references[model, mode]["$ref"]
        return reference.removeprefix(_PREFIX)

    def _reachable(self, roots: Sequence[Any]) -> set[str]:
        names: set[str] = set()
        waiting = [name for root in roots for name in _names_in(root)]
        while waiting:
            name = waiting.pop()
            if name not in names:
                names.add(name)
                waiting += _names_in(self._definitions.get(name, {}))
        return names


def _wanted(declarations: Sequence[Declaration]) -> Iterator[tuple[type[BaseModel], Mode]]:
    for declaration in declarations:
        body = declaration.body
        for model in (declaration.query, body.json if body else None, body.form if body else None):
            if model is not None:
                yield model, "validation"
        for answered in declaration.answers:
            if answered.model is not None:
                yield answered.model, "serialization"


def _inlined(declarations: Sequence[Declaration]) -> set[type[BaseModel]]:
    found = {declaration.query for declaration in declarations} | {d.body.form for d in declarations if d.body}
    return {model for model in found if model is not None}


def _names_in(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        if isinstance(schema.get("$ref"), str):
            yield str(schema["$ref"]).removeprefix(_PREFIX)
        for part in schema.values():
            yield from _names_in(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _names_in(part)


def _tidy(schema: Any, *, asked: bool) -> None:
    """Drop pydantic's titles, and in what clients send say the limits that hold everywhere."""
    if not isinstance(schema, dict):
        return
    if isinstance(schema.get("title"), str):
        del schema["title"]
    if "type" in schema and schema.get("default", ...) is None:
        del schema["default"]
    if asked:
        _limit(schema)
    for part in _parts(schema):
        _tidy(part, asked=asked)


def _parts(schema: Mapping[str, Any]) -> Iterator[Any]:
    """The schemas inside a schema; what is data is none."""
    for key, part in schema.items():
        if key in ("properties", "$defs"):
            yield from part.values()
        elif isinstance(part, list) and key not in _DATA_KEYS:
            yield from part
        elif key not in _DATA_KEYS:
            yield part


def _limit(schema: dict[str, Any]) -> None:
    kind = schema.get("type")
    free_text = schema.get("format", "password") == "password" and not schema.keys() & {"pattern", "enum", "const", "contentMediaType"}
    if kind == "string" and free_text:
        schema["pattern"] = NO_NUL
    if kind == "string":
        _exemplify(schema)
    if kind == "integer" and not schema.keys() & {"enum", "const"}:
        if "exclusiveMinimum" not in schema:
            schema.setdefault("minimum", -_INT64 - 1)
        if "exclusiveMaximum" not in schema:
            schema.setdefault("maximum", _INT64)
    if kind == "object":
        _limit_keys(schema)


def _exemplify(schema: dict[str, Any]) -> None:
    """Give a text an example that fits; documentation pages make up gibberish from a pattern."""
    example = "a long passphrase" if schema.get("format") == "password" else _EXAMPLES.get(schema.get("pattern", ""))
    if example and schema.get("minLength", 0) <= len(example) <= schema.get("maxLength", len(example)):
        schema.setdefault("examples", [example])


def _limit_keys(schema: dict[str, Any]) -> None:
    """A limit on keys as `propertyNames`, which holds for all of them: other keys escape from pydantic's `patternProperties`."""
    patterns: dict[str, Any] = schema.get("patternProperties", {})
    if len(patterns) == 1:
        del schema["patternProperties"]
        ((pattern, values),) = patterns.items()
        schema["propertyNames"] = {**schema.get("propertyNames", {}), "pattern": pattern}
        schema["additionalProperties"] = values or True
    if schema.get("additionalProperties") is True:
        schema["additionalProperties"] = {"$ref": _PREFIX + _JSON}
        schema.setdefault("examples", [{}])
        schema.setdefault("propertyNames", {"pattern": NO_NUL})


def _without_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    shown = {key: value for key, value in schema.items() if not (key == "default" and value is None)}
    options = [part for part in shown.get("anyOf", ()) if part.get("type") != "null"]
    if len(options) == 1:
        del shown["anyOf"]
        shown = {**options[0], **shown}
    elif options:
        shown["anyOf"] = options
    return shown
