"""Which storage backend to open, read from one URL. No driver is imported here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from agenthub.core.errors import SettingsError

Backend = Literal["memory", "sqlite", "postgresql", "bigquery"]

_POSTGRESQL_SCHEMES: Final = ("postgres", "postgresql", "postgresql+psycopg2")
_PROJECT: Final = re.compile(r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]\Z")
_DATASET: Final = re.compile(r"[A-Za-z0-9_]{1,1024}\Z")
_LOCATION: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,40}\Z")
_ENDPOINT: Final = re.compile(r"https?://[^/?#@\s]+\Z")
_FORMS: Final = (
    "use postgresql://USER:PASSWORD@HOST:5432/NAME for PostgreSQL, sqlite:////absolute/path.db for an embedded file, "
    "or memory:// for rows that vanish with the process"
)


@dataclass(frozen=True, slots=True)
class BigQuerySettings:
    """A dataset and how to ask it.

    `endpoint`: where an emulator listens, asked without credentials; None for the service itself. An operation may take
    `timeout_seconds`, and a statement may bill `max_bytes`.
    """

    project: str
    dataset: str = "agenthub_data"
    location: str = "US"
    endpoint: str | None = None
    timeout_seconds: float = 30.0
    max_bytes: int = 10 * 2**30


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """One backend and how to open it.

    `pool_size` connections stay open per process and `max_overflow` more may be opened for a while; a thread waits
    `pool_timeout_seconds` for one. The URL, which holds the password, is left out of the repr; `describe()` is for logs.
    """

    backend: Backend
    url: str = field(repr=False)
    pool_size: int = 5
    max_overflow: int = 5
    pool_timeout_seconds: float = 3.0
    on_cloud_run: bool = False
    accept_ephemeral_sqlite: bool = False
    bigquery: BigQuerySettings | None = None

    def describe(self) -> str:
        """The URL without user, password and parameters."""
        authority, path, _ = _split(self.url)
        place = f"{authority.rpartition('@')[2]}/{path}" if path else authority.rpartition("@")[2]
        return f"{self.url.partition('://')[0]}://{place}"


def parse_database_url(url: str) -> StorageSettings:
    """The settings of a `DATABASE_URL`, other fields at their defaults.

    Raises: SettingsError, saying what to write instead, for a scheme that no backend serves or a URL that names no database.
    """
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    if scheme == "memory":
        return StorageSettings("memory", "memory://")
    if scheme == "sqlite":
        sqlite_path(url)
        return StorageSettings("sqlite", url)
    if scheme in _POSTGRESQL_SCHEMES:
        postgresql_target(url)
        return StorageSettings("postgresql", url)
    raise SettingsError([_remedy(scheme)])


def parse_storage_url(url: str) -> StorageSettings:
    """The settings of a URL that an operator names as the source or target of a move: also `bigquery://PROJECT/DATASET`.

    `?location=EU` says where a new dataset is made, `?endpoint=http://HOST:PORT` where an emulator listens.
    Raises: SettingsError as `parse_database_url`.
    """
    parts = urlsplit(url)
    if parts.scheme != "bigquery":
        return replace(parse_database_url(url), accept_ephemeral_sqlite=True)  # it says which file; where it lies is the operator's choice
    given = dict(parse_qsl(parts.query))
    if unknown := set(given) - {"location", "endpoint"}:
        raise SettingsError([f"a bigquery:// URL takes location and endpoint, not {', '.join(sorted(unknown))}"])
    location, endpoint = given.get("location", "US"), given.get("endpoint")
    return bigquery_storage(BigQuerySettings(parts.netloc, parts.path.strip("/"), location, endpoint))


def bigquery_storage(bigquery: BigQuerySettings) -> StorageSettings:
    """The settings of rows in BigQuery.

    Raises: SettingsError when the project, dataset or endpoint can't be one.
    """
    problems = []
    if not _PROJECT.match(bigquery.project):
        problems.append("GOOGLE_CLOUD_PROJECT is not the id of a project: 6 to 30 of a-z, 0-9 and -")
    if not _DATASET.match(bigquery.dataset):
        problems.append("BIGQUERY_DATASET must be 1 to 1024 letters, digits and underscores")
    if not _LOCATION.match(bigquery.location):
        problems.append("BIGQUERY_LOCATION is not a location such as US, EU or europe-west3")
    if bigquery.endpoint is not None and not _ENDPOINT.match(bigquery.endpoint):
        problems.append("BIGQUERY_EMULATOR_HOST must be http://HOST:PORT")
    if problems:
        raise SettingsError(problems)
    return StorageSettings("bigquery", f"bigquery://{bigquery.project}/{bigquery.dataset}", bigquery=bigquery)


def _remedy(scheme: str) -> str:
    if not scheme:
        return f"DATABASE_URL is not a URL: {_FORMS}"
    if scheme.startswith("postgresql+"):
        return f"DATABASE_URL names the driver {scheme.partition('+')[2]}; AgentHub uses psycopg2: write postgresql://..."
    if scheme == "bigquery":
        return "DATABASE_URL can't name BigQuery: set GOOGLE_CLOUD_PROJECT and BIGQUERY_DATASET and leave DATABASE_URL empty"
    return f"DATABASE_URL has the unknown scheme {scheme}: {_FORMS}"


def sqlite_path(url: str) -> Path:
    """The file of a `sqlite:///relative` or `sqlite:////absolute` URL.

    Raises: SettingsError when it names no file.
    """
    parts = urlsplit(url)
    name = unquote(parts.path[1:])
    if parts.netloc or not name or name == ":memory:":
        raise SettingsError(["DATABASE_URL names no SQLite file: write sqlite:////absolute/path.db, or memory:// if nothing need last"])
    if parts.query:
        raise SettingsError(["DATABASE_URL: an SQLite URL takes no parameters"])
    return Path(name).absolute()


@dataclass(frozen=True, slots=True)
class PostgresqlTarget:
    """What libpq needs to connect; `hosts` and `ports` are equally long, one entry a server, tried in order."""

    user: str | None
    password: str | None = field(repr=False)
    database: str | None
    hosts: tuple[str, ...]
    ports: tuple[str, ...]
    parameters: tuple[tuple[str, str], ...] = field(repr=False)  # may hold a password too


def postgresql_target(url: str) -> PostgresqlTarget:
    """The parts of a libpq URL, which may list several servers: `postgresql://u:p@a:5432,b:5432/db?target_session_attrs=read-write`.

    Raises: SettingsError when a port is not a number or a parameter has no value.
    """
    authority, path, query = _split(url)
    userinfo, _, servers = authority.rpartition("@")
    user, _, password = userinfo.partition(":")
    pairs = [_server(server) for server in servers.split(",")] if servers else []
    return PostgresqlTarget(
        user=unquote(user) or None,
        password=unquote(password) or None,
        database=unquote(path) or None,
        hosts=tuple(host for host, _ in pairs),
        ports=tuple(port for _, port in pairs),
        parameters=_parameters(query),
    )


def _split(url: str) -> tuple[str, str, str]:
    """Authority, path without its slash, and query. By hand: newer Pythons refuse `[::1]` in a list of servers."""
    rest, _, query = url.partition("://")[2].partition("#")[0].partition("?")
    authority, _, path = rest.partition("/")
    return authority, path, query


def _server(text: str) -> tuple[str, str]:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, ""
    if port and not (port.isdecimal() and 0 < int(port) < 65536):
        raise SettingsError(["DATABASE_URL: a port is not a number from 1 to 65535 (percent-encode : / @ in the password)"])
    return unquote(host.strip("[]")), port


def _parameters(query: str) -> tuple[tuple[str, str], ...]:
    pairs = [part.partition("=") for part in query.split("&") if part]
    if any(not equals or not name for name, equals, _ in pairs):
        raise SettingsError(["DATABASE_URL: a parameter after ? has no value"])
    return tuple((unquote(name), unquote(value)) for name, _, value in pairs)
