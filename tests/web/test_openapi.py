"""The OpenAPI document: valid, complete, and of the running services only."""

from __future__ import annotations

import re
from typing import Any

from openapi_spec_validator import validate


def document_of(app: Any) -> Any:
    answer = app.test_client().get("/api/openapi.json")
    assert answer.status_code == 200
    return answer.json


def test_it_is_valid_openapi_31(world: Any) -> None:
    document = document_of(world.app)
    assert document["openapi"].startswith("3.1")
    validate(document)


def test_it_has_every_declared_route_and_no_other(world: Any) -> None:
    document = document_of(world.app)
    described = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    hidden = {"/", "/docs", "/static/{name}"}
    served = {
        (re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule), method)
        for rule in world.app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert described == {entry for entry in served if entry[0] not in hidden}


def test_operation_ids_are_unique_and_access_is_said(world: Any) -> None:
    operations = [operation for methods in document_of(world.app)["paths"].values() for operation in methods.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))
    create = next(operation for operation in operations if operation["operationId"] == "create_note")
    assert create["x-permission"] == "agents:write"
    login = next(operation for operation in operations if operation["operationId"] == "sign_in")
    assert login["security"] == []


def test_parameters_bodies_and_errors_are_described(world: Any) -> None:
    paths = document_of(world.app)["paths"]
    parameters = {parameter.get("name"): parameter for parameter in paths["/api/notes"]["get"]["parameters"]}
    assert parameters["limit"]["schema"] | {"maximum": 200, "minimum": 1, "default": 50, "type": "integer"} == parameters["limit"]["schema"]
    assert parameters["done"]["schema"] == {"type": "boolean"}
    create = paths["/api/notes"]["post"]
    assert create["requestBody"]["required"] is True
    assert set(create["responses"]) >= {"201", "400", "401", "403", "409", "413", "422", "500", "503"}
    assert "links" in create["responses"]["201"]
    assert {"multipart/form-data", "application/json"} == set(paths["/api/notes/files"]["post"]["requestBody"]["content"])
    path_id = paths["/api/notes/{note_id}"]["get"]["parameters"][0]
    assert path_id["schema"]["minLength"] == 26


def test_a_process_describes_only_what_it_serves(make_app: Any) -> None:
    app, _ = make_app(AGENTHUB_SERVICES="platform.system-health")
    assert set(document_of(app)["paths"]) == {"/api/health", "/api/health/live", "/api/health/ready", "/metrics", "/api/openapi.json"}
