"""Schema-driven fuzzing of every documented operation, as each role: no 500, and answers are what the document says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from agenthub.core.ids import new_id
from tests.api import Api, make_app

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ENDS_ITS_CALLER = re.compile("/api/auth/(logout|sessions|password)|DELETE /api/(users|organizations)")
"""What would end the session that fuzzing goes on with, when it succeeds."""
ROLES = ["owner", "admin", "devops", "user", "viewer", "anonymous"]


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Api:
    folder: Path = tmp_path_factory.mktemp("fuzz")
    return Api(make_app(folder)).login()


@pytest.fixture(scope="module")
def tokens(owner: Api) -> dict[str, str | None]:
    """A token for each role; the role's user is another one than the owner who made it, so that fuzzing can't end the fuzzer."""
    found: dict[str, str | None] = {"anonymous": None, "owner": owner.token}
    for role in ROLES[1:5]:
        account = {"email": f"{role}@example.com", "password": f"a long password of {role}"}
        owner.post("/api/users", {**account, "name": role, "role": role}, 201)
        found[role] = Api(owner.app).login(**account).token
    return found


@pytest.fixture(scope="module")
def api_schema(owner: Api) -> Any:
    return schemathesis.openapi.from_wsgi("/api/openapi.json", owner.app)


@pytest.fixture(scope="module")
def places(owner: Api) -> dict[str, str]:
    """Ids that exist, so that fuzzing gets past the 404."""
    base = owner.post("/api/knowledge-bases", {"name": f"fuzzed {new_id()}"}, 201)["id"]
    document = owner.post(f"/api/knowledge-bases/{base}/documents", {"title": "a", "text": "some text to be found"}, 201)
    chunk = owner.get(f"/api/knowledge-bases/{base}/documents/{document['id']}/chunks")["items"][0]["id"]
    faq = owner.post("/api/faqs", {"knowledge_base_id": base, "question": "What is fuzzed?", "answer": "This."}, 201)["id"]
    agent = owner.post("/api/agents", {"name": "fuzzed"}, 201)["id"]
    owner.post(f"/api/agents/{agent}/publish", {})
    return {"knowledge_base_id": base, "document_id": document["id"], "chunk_id": chunk, "agent_id": agent, "faq_id": faq}


SETTINGS = hypothesis.settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


def test_no_documented_operation_fails(api_schema: Any, tokens: dict[str, str | None], places: dict[str, str]) -> None:
    failures: list[str] = []
    # Bodies that are no JSON and no form have tests of their own: tar in test_bundles.py, JSON lines in test_records.py.
    operations = [found.ok() for found in api_schema.get_all_operations() if not found.ok().path.endswith(("/import", "/records"))]
    for operation in operations:
        try:
            fuzz(operation, tokens, places)
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - all failures are told at once
            failures.append(f"{operation.label}: {error}")
    assert len(operations) > 50
    assert not failures, "\n\n".join(failures)


def fuzz(operation: Any, tokens: dict[str, str | None], places: dict[str, str]) -> None:
    """Ask one operation generated questions as each role; half of the ids in its path exist."""

    @hypothesis.given(case=operation.as_strategy(), real=hypothesis.strategies.booleans())
    @SETTINGS
    def ask(case: Any, real: bool) -> None:
        if real:
            case.path_parameters.update({name: value for name, value in places.items() if name in case.path_parameters})
        for role in ROLES:
            if role == "owner" and ENDS_ITS_CALLER.search(operation.label):
                continue
            headers = {"Authorization": f"Bearer {tokens[role]}"} if tokens[role] else {}
            response = case.call(headers=headers)
            case.validate_response(response, checks=CHECKS, headers=headers)

    ask()
