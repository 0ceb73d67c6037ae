"""An application with a service made for these tests, over the memory backend, with an owner and a viewer."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final

import pytest
from flask import Blueprint, Flask
from flask.testing import FlaskClient
from pydantic import Field

from agenthub import factory, registry
from agenthub.core.errors import StorageUnavailable, VolumeFull
from agenthub.core.ids import new_id
from agenthub.core.types import TenantId
from agenthub.registry import SERVICES, Service
from agenthub.repositories.base import Page, Repository
from agenthub.settings import Settings
from agenthub.storage.contract import Table
from agenthub.web.access import principal, repository
from agenthub.web.answers import Answer, Attachment, Raw
from agenthub.web.declare import accepts, accepts_files, free_path, public, requires, returns, serves, signed_in, takes
from agenthub.web.schema import Id, ListOf, Moment, Name, PageQuery, Schema, ShownOnce

OWNER: Final = {"email": "owner@example.com", "password": "a-long-test-password-1"}
VIEWER: Final = {"email": "viewer@example.com", "password": "a-long-test-password-2"}
MODULE: Final = "agenthub_tests_notes"


@dataclass(frozen=True, slots=True)
class Note:
    id: str
    tenant_id: TenantId
    title: str
    secret: str | None = None
    version: int = 1


class NoteRepository(Repository[Note]):
    table = Table.of("notes", Note)
    entity = Note
    resource_kind = "note"


class NoteIn(Schema):
    title: Name
    count: Annotated[int, Field(ge=0, le=10)] = 0
    items: tuple[Annotated[list[float], Field(max_length=3)], ...] = ()
    due: Moment | None = None
    mixed: int | str | None = None


class NoteOut(Schema):
    id: Id
    title: str
    secret: ShownOnce = None


class NoteQuery(PageQuery):
    done: bool | None = None
    tag: tuple[Name, ...] = ()
    weight: float | None = None


class FileForm(Schema):
    label: Name | None = None


class FilesOut(Schema):
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    label: str | None


def notes_blueprint(calls: list[str]) -> Blueprint:
    """The routes; each call of a view is noted in `calls`."""
    bp = Blueprint("notes", __name__)

    @bp.post("")
    @requires("agents:write")
    @accepts(NoteIn)
    @returns(NoteOut, status=201)
    def create_note(body: NoteIn) -> Note:
        """Create a note."""
        calls.append("create")
        return repository(NoteRepository).add(Note(new_id(), principal().tenant_id, body.title, "shown-once-canary"))

    @bp.get("")
    @requires("agents:read")
    @takes(NoteQuery)
    @returns(ListOf[NoteOut])
    def list_notes(query: NoteQuery) -> Page[Note]:
        """List notes."""
        calls.append(f"list {query.done} {query.tag} {query.weight}")
        return repository(NoteRepository).page(principal().tenant_id, limit=query.limit, cursor=query.cursor)

    @bp.get("/<note_id>")
    @requires("agents:read")
    @returns(NoteOut)
    def get_note(note_id: str) -> Note:
        """One note."""
        return repository(NoteRepository).get(principal().tenant_id, note_id)

    @bp.delete("/<note_id>")
    @requires("agents:write")
    @returns(None)
    def delete_note(note_id: str) -> None:
        """Delete a note."""
        calls.append("delete")
        repository(NoteRepository).remove(principal().tenant_id, note_id)

    return bp


def odd_blueprint(calls: list[str]) -> Blueprint:
    """Files, odd paths, bytes."""
    bp = Blueprint("odd", __name__)

    @bp.post("/files")
    @requires("agents:write")
    @accepts_files(FileForm, json=NoteIn, max_files=2)
    @returns(FilesOut)
    def take_files(body: Any, files: Any) -> dict[str, Any]:
        """Take files or a note."""
        label = body.label if isinstance(body, FileForm) else body.title
        return {"names": [f.filename for f in files], "sizes": [len(f.data) for f in files], "label": label}

    @bp.get("/free/<chunk_id>")
    @signed_in()
    @free_path("chunk_id")
    @returns(NoteOut)
    def get_free(chunk_id: str) -> dict[str, Any]:
        """A path part of the client's."""
        return {"id": new_id(), "title": chunk_id, "undeclared": "canary"}

    @bp.get("/number/<int:number>")
    @signed_in()
    @returns(NoteOut)
    def get_number(number: int) -> dict[str, Any]:
        """A number in the path."""
        return {"id": new_id(), "title": str(number)}

    @bp.get("/raw")
    @signed_in()
    @returns(NoteOut)
    def get_raw() -> Answer:
        """Bytes made by the view."""
        return Answer(Raw(b'{"id":"x","title":"raw","secret":null}'), headers={"X-KB-Generation": "7"})

    @bp.get("/file")
    @signed_in()
    @serves("application/octet-stream")
    def get_file() -> Attachment:
        """A download."""
        return Attachment(b"<script>", 'na"me\r\n\u2028é.html', "text/html")

    _add_failures(bp, calls)
    return bp


def _add_failures(bp: Blueprint, calls: list[str]) -> None:
    """Views that fail in three ways."""

    @bp.get("/broken")
    @public("a test")
    @returns(NoteOut)
    def broken() -> None:
        """Fail."""
        raise RuntimeError("canary-in-traceback")

    @bp.get("/down")
    @public("a test")
    @returns(NoteOut)
    def down() -> None:
        """Have no database."""
        raise StorageUnavailable("the database can't be reached", retry_after_seconds=2.2)

    @bp.post("/full")
    @public("a test")
    @accepts(NoteIn)
    @returns(NoteOut)
    def full(body: NoteIn) -> None:
        """Have no space."""
        calls.append("full")
        raise VolumeFull("no space left")


@dataclass(frozen=True)
class World:
    """The application, the calls its views saw, and headers of two principals."""

    app: Flask
    calls: list[str]
    owner: dict[str, str]
    viewer: dict[str, str]

    def client(self) -> FlaskClient:
        return self.app.test_client()


AppMaker = Callable[..., tuple[Flask, list[str]]]


@pytest.fixture(scope="module")
def make_app() -> Iterator[AppMaker]:
    """Builds applications that serve the notes beside authentication."""
    patch = pytest.MonkeyPatch()

    def make(**environment: str) -> tuple[Flask, list[str]]:
        calls: list[str] = []
        module = types.ModuleType(MODULE)
        vars(module)["BLUEPRINTS"] = (("/api/notes", notes_blueprint(calls)), ("/api/notes", odd_blueprint(calls)))
        patch.setitem(sys.modules, MODULE, module)
        service = Service("platform.notes", f"{MODULE}:BLUEPRINTS", ("/api/notes",), frozenset({"storage"}), "Notes", "For tests.")
        patch.setattr(registry, "SERVICES", (service, *SERVICES))
        base = {"DATABASE_URL": "memory://", "AGENTHUB_SERVICES": "platform.*"}
        return factory.create_app(Settings.from_env(base | environment)), calls

    yield make
    patch.undo()


def token_of(client: FlaskClient, credentials: dict[str, str]) -> str:
    body: Any = client.post("/api/auth/login", json=credentials).json
    return str(body["session_token"])


@pytest.fixture(scope="module")
def world(make_app: AppMaker) -> World:
    """The application with its two principals."""
    app, calls = make_app(AGENTHUB_OWNER_EMAIL=OWNER["email"], AGENTHUB_OWNER_PASSWORD=OWNER["password"])
    client = app.test_client()
    owner = {"Authorization": "Bearer " + token_of(client, OWNER)}
    made = client.post("/api/users", json={**VIEWER, "name": "Viewer", "role": "viewer"}, headers=owner)
    assert made.status_code == 201, made.json
    viewer = {"Authorization": "Bearer " + token_of(client, VIEWER)}
    return World(app, calls, owner, viewer)
