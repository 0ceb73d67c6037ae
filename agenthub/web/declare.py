"""What a view says about itself. Decorators only note; `web/guard.py` enforces and `web/openapi.py` documents.

    @bp.post("")
    @requires("users:write")
    @accepts(UserCreate)
    @returns(UserOut, status=201)
    def create_user(body: UserCreate) -> User: ...

The access decorator stands right below the route: its result is of no type that Flask would check, for a view returns entities.
A view that declares neither `requires`, `signed_in` nor `public` keeps the application from being built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel

from agenthub.repositories.base import Repository

View = TypeVar("View", bound=Callable[..., Any])

MAX_JSON_BYTES: Final = 1024 * 1024
_ATTRIBUTE: Final = "agenthub_declaration"


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call: holders of `permission`, anyone signed in, or the public (for `reason`)."""

    kind: Literal["permission", "signed_in", "public"]
    permission: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Body:
    """How the body is read: JSON of `json`, or multipart with the fields of `form` and files, or either; or a file as it is,
    of the media type `stream`.
    """

    json: type[BaseModel] | None = None
    form: type[BaseModel] | None = None
    max_bytes: int | None = MAX_JSON_BYTES
    max_files: int = 0
    description: str = ""
    stream: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """One kind of answer. `model` is None for an empty or (with `media_type`) a binary one."""

    status: int
    model: type[BaseModel] | None
    description: str = ""
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Declaration:
    """All that a view said."""

    access: Access | None = None
    body: Body | None = None
    query: type[BaseModel] | None = None
    answers: tuple[Answered, ...] = ()
    free_path: frozenset[str] = frozenset()
    refuses: tuple[str, ...] = ()
    hidden: bool = False
    foresees: tuple[type[Repository[Any]], str] | None = None
    resumes: Callable[..., Any] | None = None

    def answer(self, status: int) -> Answered | None:
        """The declared answer of that status, if there is one."""
        return next((answer for answer in self.answers if answer.status == status), None)


def declaration_of(view: Callable[..., Any]) -> Declaration:
    """What a view said about itself; an empty declaration when it said nothing."""
    found = getattr(view, _ATTRIBUTE, None)
    return found if isinstance(found, Declaration) else Declaration()


def _note(view: View, **changes: Any) -> View:
    setattr(view, _ATTRIBUTE, replace(declaration_of(view), **changes))
    return view


def requires(permission: str) -> Callable[[Callable[..., Any]], Any]:
    """Only principals whose role or key holds `permission` may call."""
    return lambda view: _note(view, access=Access("permission", permission=permission))


def signed_in() -> Callable[[Callable[..., Any]], Any]:
    """Any authenticated principal may call."""
    return lambda view: _note(view, access=Access("signed_in"))


def public(reason: str) -> Callable[[Callable[..., Any]], Any]:
    """Anyone may call, for the stated reason; a test lists these."""
    return lambda view: _note(view, access=Access("public", reason=reason))


def accepts(model: type[BaseModel], *, max_bytes: int | None = MAX_JSON_BYTES) -> Callable[[View], View]:
    """The view gets `body`, a valid `model`, read from JSON whatever the Content-Type says.

    `max_bytes` None means the server's limit for uploads (`AGENTHUB_MAX_BODY_BYTES`).
    """
    return lambda view: _note(view, body=Body(json=model, max_bytes=max_bytes))


def accepts_files(form: type[BaseModel], *, json: type[BaseModel] | None = None, max_files: int = 100) -> Callable[[View], View]:
    """The view gets `files`, a tuple of `UploadedFile`, and `body`, a valid `form` made of the other multipart fields.

    With `json`, a body that isn't multipart is read as JSON: then `body` is of that model and `files` is empty.
    """
    return lambda view: _note(view, body=Body(json=json, form=form, max_bytes=None, max_files=max_files))


def accepts_stream(media_type: str, description: str = "") -> Callable[[View], View]:
    """The view gets `stream`, the body as a file open for reading that never was in memory as a whole; the view closes it.

    It may be as long as `AGENTHUB_MAX_BUNDLE_BYTES` says.
    """
    return lambda view: _note(view, body=Body(max_bytes=None, description=description, stream=media_type))


def takes(model: type[BaseModel]) -> Callable[[View], View]:
    """The view gets `query`, a valid `model` made of the query string. Without this, a query string is refused."""
    return lambda view: _note(view, query=model)


def returns(
    model: type[BaseModel] | None, status: int = 200, description: str = "", *, headers: Mapping[str, str] | None = None
) -> Callable[[View], View]:
    """The view's answer is dumped through `model` (None: no body, 204 unless told otherwise). `headers` documents answer headers.

    May be repeated for other statuses, which a view chooses with `Answer(value, status=…)`; the topmost is the default.
    """
    answered = Answered(204 if model is None and status == 200 else status, model, description, headers=headers or {})
    return lambda view: _note(view, answers=(answered, *declaration_of(view).answers))


def serves(media_type: str, description: str = "", status: int = 200) -> Callable[[View], View]:
    """The view answers bytes of that type (`Attachment`, `Raw` or a Flask response)."""
    answered = Answered(status, None, description, media_type)
    return lambda view: _note(view, answers=(answered, *declaration_of(view).answers))


def free_path(*names: str) -> Callable[[View], View]:
    """These path parameters, though called `…_id`, were named by a client and need not look like our ids."""
    return lambda view: _note(view, free_path=declaration_of(view).free_path | set(names))


def refuses(*codes: str) -> Callable[[View], View]:
    """The view may also answer these error codes (`volume_full`, `model_mismatch`): for the OpenAPI document."""
    return lambda view: _note(view, refuses=(*declaration_of(view).refuses, *codes))


def foresees(kind: type[Repository[Any]], parameter: str) -> Callable[[View], View]:
    """The view needs the row whose id is this path parameter: it is read in the statement that asks who calls; see `access.foreseen`."""
    return lambda view: _note(view, foresees=(kind, parameter))


def resumes(view_again: Callable[..., Any]) -> Callable[[View], View]:
    """Where the first answer to a write was 202, `view_again` makes the answer to its repeats: it gets the body of the first as
    `first` and the arguments of the view. As soon as it is another than 202, it is the one that repeats get from then on.
    """
    return lambda view: _note(view, resumes=view_again)


def undocumented() -> Callable[[View], View]:
    """Leave the view out of the OpenAPI document: pages for people, not the API."""
    return lambda view: _note(view, hidden=True)
