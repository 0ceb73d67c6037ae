"""The base of every request and answer, and the field types that services share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Generic, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic.json_schema import SkipJsonSchema

from agenthub.core.ids import ID_LENGTH, ID_PATTERN
from agenthub.core.json import dumps

NO_NUL: Final = r"^[^\x00]*$"
ONE_LINE: Final = r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$"
_INT64: Final = 2**63 - 1


class Schema(BaseModel):
    """A request or answer. Unknown fields are refused in requests and dropped from answers; JSON is taken strictly
    (no text for numbers); attributes of entities are read as they are.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        from_attributes=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        json_schema_serialization_defaults_required=True,
        protected_namespaces=(),
        defer_build=True,  # built when first used: a third of a start
    )


Id = Annotated[str, StringConstraints(pattern=ID_PATTERN, min_length=ID_LENGTH, max_length=ID_LENGTH)]
"""An id made by the server: 26 characters that sort by creation time."""

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=ONE_LINE)]
"""One line of 1..200 characters that is not blank; surrounding space is dropped."""

Text = Annotated[str, Field(max_length=20_000, pattern=NO_NUL)]
"""Up to 20,000 characters of any text without NUL; services narrow it with another `Field(max_length=…)`."""

Count = Annotated[int, Field(ge=0, le=_INT64)]
"""A whole number of 0..2^63-1."""


def _rfc3339(value: Any) -> Any:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or len(value) < 20 or value[10] not in "Tt ":
        raise ValueError("should be a time such as 2026-01-31T12:00:00Z")
    return datetime.fromisoformat(value.upper())


def _utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("should be a time of the years 1 to 9999 in UTC") from error


# The text is parsed here: after a validator in Python, pydantic, being strict, no longer takes a text for a time.
Moment = Annotated[AwareDatetime, BeforeValidator(_rfc3339), AfterValidator(_utc)]
"""An RFC 3339 time with its zone; kept and answered in UTC."""

MAX_METADATA_BYTES: Final = 16_384


def _bounded_metadata(value: dict[str, Any]) -> dict[str, Any]:
    try:
        size_bytes = len(dumps(value))
    except TypeError as error:
        raise ValueError("holds a number that does not fit 64 bits") from error
    if size_bytes > MAX_METADATA_BYTES:
        raise ValueError(f"should be at most {MAX_METADATA_BYTES} bytes of JSON")
    return value


JsonMetadata = Annotated[
    dict[Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=NO_NUL)], Any],
    Field(max_length=64),
    AfterValidator(_bounded_metadata),
]
"""A JSON object of the client's own: at most 64 keys of 1..100 characters, 16 KiB in all."""

SHOWN_ONCE: Final = {"x-shown-once": True}
ShownOnce = Annotated[str | None, Field(json_schema_extra=SHOWN_ONCE)]
"""A secret that only the first answer carries: the stored answer for repeats of an Idempotency-Key has null in its place."""


class PageQuery(Schema):
    """The query string of every paged list."""

    limit: Annotated[int, Field(ge=1, le=200, description="How many items at most")] = 50
    cursor: Annotated[
        Annotated[str, Field(max_length=2_000, pattern=r"^[A-Za-z0-9_-]+$")] | SkipJsonSchema[None],
        Field(description="The `next_cursor` of the page before; absent for the first page"),
    ] = None


ItemT = TypeVar("ItemT")


class ListOf(Schema, Generic[ItemT]):
    """One page of a list; `next_cursor` is null on the last."""

    items: tuple[ItemT, ...]
    next_cursor: str | None

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        """`UserOutList` for `ListOf[UserOut]`."""
        return f"{getattr(params[0], '__name__', 'Item')}List"


class ErrorDetail(Schema):
    """What went wrong."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    code: Annotated[str, Field(description="Stable, for programs", examples=["invalid_input"])]
    message: Annotated[str, Field(description="For people; its wording may change", examples=["must be at most 200"])]
    field: Annotated[str | None, Field(description="The input at fault", examples=["items[3].vector"])] = None
    request_id: Annotated[str, Field(description="Names this request in the logs")]


class ErrorOut(Schema):
    """The body of every error."""

    error: ErrorDetail
