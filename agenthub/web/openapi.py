"""The OpenAPI 3.1 document, made from what the views of the running services declare."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flask import Flask
from werkzeug.routing import Rule

from agenthub import __version__
from agenthub.core.ids import ID_LENGTH, ID_PATTERN
from agenthub.registry import Service, load
from agenthub.web.declare import Answered, Body, Declaration, declaration_of
from agenthub.web.errors import HTTP_CODES, INTERNAL, TABLE
from agenthub.web.idempotency import HEADER, MAX_KEY_LENGTH
from agenthub.web.openapi_schemas import EXAMPLE_ID, SchemaBook
from agenthub.web.schema import ErrorOut

_PLACE: Final = re.compile(r"<(?:[^:<>]+:)?([^<>]+)>")
_WRITES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_OWN_TAGS: Final = {"probes": "Probes", "pages": "About"}
_TAG_TEXTS: Final = {
    "Probes": "What platforms ask of every process, whichever services it serves.",
    "About": "The description of this API.",
}
_ABOUT: Final = """
Bodies and answers are JSON in UTF-8; a JSON body is read whatever its Content-Type says. Unknown fields and unknown query
parameters are refused. Ids are made by the server and sort by creation time. Times are RFC 3339 in UTC.

**Signing in**: `POST /api/auth/login` answers a session token; send it, or an API key, as `Authorization: Bearer TOKEN`.

**Lists** are paged: `limit` is 1 to 200, `next_cursor` of one page is `cursor` for the next, null on the last.

**Writes** take an `Idempotency-Key` header: a repeat with the same key and content gets the first answer again, with
`Idempotent-Replayed: true`, and is not applied twice; the same key with other content is a 409.

**Errors** are `{"error": {"code", "message", "field"?, "request_id"}}`; `field` names the input at fault, such as
`items[3].vector`. 503 and 429 say in `Retry-After` when to come back.
""".strip()


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one route, as it goes into the document."""

    path: str
    method: str
    rule: Rule
    declaration: Declaration
    id: str
    summary: str
    description: str
    tag: str


def document(app: Flask, services: Sequence[Service]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the routes of these services, as plain values."""
    operations = _operations(app, services)
    book = SchemaBook([operation.declaration for operation in operations], ErrorOut)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, book)
    _link(operations, paths)
    used = {operation.tag for operation in operations}
    return {
        "openapi": "3.1.0",
        "info": {"title": "AgentHub", "version": __version__, "description": _ABOUT, "license": _LICENSE},
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": [tag for tag in _tags(services) if tag["name"] in used],
        "paths": paths,
        "components": {
            "schemas": book.schemas(),
            "parameters": {"IdempotencyKey": _IDEMPOTENCY_KEY},
            "headers": {"RequestId": {"description": "Names this request in the logs", "schema": {"type": "string"}}},
            "responses": {f"Error{status}": _error(status, book) for status in sorted(_CODES)},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": "A session token or an API key"}},
        },
    }


_LICENSE: Final = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
_IDEMPOTENCY_KEY: Final[Mapping[str, Any]] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "A name for this write, made by the client: repeats with the same name are applied once. Kept for 7 days.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH, "pattern": "^[!-~]+$"},
}


def _tags(services: Sequence[Service]) -> list[dict[str, str]]:
    own = [{"name": name, "description": text} for name, text in _TAG_TEXTS.items()]
    return [{"name": service.title, "description": service.description} for service in services] + own


def _operations(app: Flask, services: Sequence[Service]) -> list[Operation]:
    tags = _OWN_TAGS | {blueprint.name: service.title for service in services for _, blueprint in load(service)}
    operations: list[Operation] = []
    names: set[str] = set()
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        view = app.view_functions[rule.endpoint]
        declaration = declaration_of(view)
        for method in [] if declaration.hidden else [method for method in _METHODS if method in (rule.methods or ())]:
            blueprint, _, name = rule.endpoint.rpartition(".")
            unique = name if name not in names else f"{blueprint}_{name}_{method.lower()}"
            names.add(unique)
            summary, _, rest = (inspect.getdoc(view) or unique).partition("\n")
            path = _PLACE.sub(r"{\1}", rule.rule)
            operations.append(Operation(path, method, rule, declaration, unique, summary, rest.strip(), tags.get(blueprint, blueprint)))
    return operations


def _described(operation: Operation, book: SchemaBook) -> dict[str, Any]:
    declaration = operation.declaration
    access = declaration.access
    described: dict[str, Any] = {"operationId": operation.id, "summary": operation.summary, "tags": [operation.tag]}
    permission = access.permission if access else ""
    needs = f"Needs the permission `{permission}`." if permission else ""
    text = "\n\n".join(part for part in (operation.description, needs) if part)
    if text:
        described["description"] = text
    if permission:
        described["x-permission"] = permission
    if access and access.kind == "public":
        described["security"] = []
    parameters = _parameters(operation, book)
    if parameters:
        described["parameters"] = parameters
    if declaration.body is not None:
        described["requestBody"] = _body(declaration.body, book)
    described["responses"] = _responses(operation, book)
    return described


def _parameters(operation: Operation, book: SchemaBook) -> list[dict[str, Any]]:
    names = _PLACE.findall(operation.rule.rule)
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _path_schema(name, operation.rule, operation.declaration)}
        for name in names
    ]
    if operation.declaration.query is not None:
        parameters += book.parameters(operation.declaration.query)
    if _is_keyed(operation):
        parameters.append({"$ref": "#/components/parameters/IdempotencyKey"})
    return parameters


def _is_keyed(operation: Operation) -> bool:
    access = operation.declaration.access
    return operation.method in _WRITES and access is not None and access.kind != "public"


def _path_schema(name: str, rule: Rule, declaration: Declaration) -> dict[str, Any]:
    if re.search(rf"<int(\([^<>]*\))?:{name}>", rule.rule):
        return {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
    if name.endswith("_id") and name not in declaration.free_path:
        return {"type": "string", "pattern": ID_PATTERN, "minLength": ID_LENGTH, "maxLength": ID_LENGTH}
    return {"type": "string", "minLength": 1}


def _body(body: Body, book: SchemaBook) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if body.json is not None:
        content["application/json"] = {"schema": book.reference(body.json, "validation")}
    if body.form is not None:
        content["multipart/form-data"] = {"schema": book.form(body.form, body.max_files)}
    if body.stream:
        content[body.stream] = {"schema": {"type": "string", "format": "binary"}}
    required = body.json is None or any(field.is_required() for field in body.json.model_fields.values())
    described: dict[str, Any] = {"required": required, "content": content}
    if body.description:
        described["description"] = body.description
    return described


def _responses(operation: Operation, book: SchemaBook) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for answered in operation.declaration.answers:
        described, status = _answer(answered, book), str(answered.status)
        if status in answers:  # one status, several media types
            answers[status]["content"] |= described.get("content", {})
        else:
            answers[status] = described
    errors = {str(status): {"$ref": f"#/components/responses/Error{status}"} for status in sorted(_refusals(operation))}
    return {**errors, **answers}


def _answer(answered: Answered, book: SchemaBook) -> dict[str, Any]:
    headers: dict[str, Any] = {"X-Request-ID": {"$ref": "#/components/headers/RequestId"}}
    headers |= {name: {"description": text, "schema": {"type": "string"}} for name, text in answered.headers.items()}
    described: dict[str, Any] = {"description": answered.description or "done", "headers": headers}
    if answered.model is not None:
        described["content"] = {"application/json": {"schema": book.reference(answered.model, "serialization")}}
    elif answered.media_type == "application/json":
        described["content"] = {} if answered.status == 204 else {"application/json": {"schema": {"type": "object"}}}
    else:
        described["content"] = {answered.media_type.partition(";")[0]: {"schema": {"type": "string", "format": "binary"}}}
    if not described["content"]:
        del described["content"]
    return described


def _refusals(operation: Operation) -> set[int]:
    """The statuses of the errors an operation may answer."""
    declaration, access = operation.declaration, operation.declaration.access
    statuses = {401, 422, 500, 503}  # 401 also where no credential is needed: one that is sent must be valid
    if access is None or access.kind != "public":
        statuses |= {403, 429}
    if _PLACE.search(operation.rule.rule):
        statuses.add(404)
    if operation.method in _WRITES:
        statuses |= {404, 409, 429}
    if declaration.body is not None:
        statuses |= {400, 413}
    if declaration.query is not None:
        statuses.add(400)
    return statuses | {status for status, codes in _CODES.items() if codes & set(declaration.refuses)}


def _codes() -> dict[int, set[str]]:
    codes: dict[int, set[str]] = {INTERNAL.status: {INTERNAL.code}}
    for refusal in TABLE.values():
        codes.setdefault(refusal.status, set()).add(refusal.code)
    for status, (code, _) in HTTP_CODES.items():
        codes.setdefault(status, set()).add(code)
    return codes


_CODES: Final = _codes()


def _error(status: int, book: SchemaBook) -> dict[str, Any]:
    codes = sorted(_CODES[status])
    headers: dict[str, Any] = {"X-Request-ID": {"$ref": "#/components/headers/RequestId"}}
    if status in (429, 503):
        headers["Retry-After"] = {"description": "Seconds to wait", "schema": {"type": "string"}}
    if status == 401:
        headers["WWW-Authenticate"] = {"description": "How to sign in", "schema": {"type": "string"}}
    example = {"error": {"code": codes[0], "message": "what is wrong, for people", "request_id": EXAMPLE_ID}}
    content = {"application/json": {"schema": book.reference(ErrorOut, "serialization"), "example": example}}
    return {"description": "code " + " or ".join(f"`{code}`" for code in codes), "headers": headers, "content": content}


def _link(operations: Sequence[Operation], paths: Mapping[str, Mapping[str, Any]]) -> None:
    """Say which operations take the id that a create answers: for readers, and for tests that follow links."""
    for create in operations:
        answered = create.declaration.answer(201)
        if create.method != "POST" or answered is None or answered.model is None or "id" not in answered.model.model_fields:
            continue
        response = paths[create.path]["post"]["responses"]["201"]
        links = {}
        for other in operations:
            match = re.fullmatch(re.escape(create.path) + r"/\{(\w+_id)\}", other.path)
            if match:
                shared = {name: f"$request.path.{name}" for name in _PLACE.findall(create.rule.rule)}
                links[other.id] = {"operationId": other.id, "parameters": {**shared, match.group(1): "$response.body#/id"}}
        if links:
            response["links"] = links
