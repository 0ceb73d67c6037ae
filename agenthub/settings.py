"""The environment as one frozen object. The only reader of environment variables; `VARIABLES` is the one list of them."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, TypeVar, get_args

from agenthub.cache.configuration import PROTOCOLS, CacheSettings, MemcachedSettings, Protocol, RateSettings, check_redis_url, parse_servers
from agenthub.core.errors import SettingsError
from agenthub.fetching.configuration import FetchSettings, Network, parse_networks
from agenthub.llm.configuration import MAX_TOKENS, LlmSettings
from agenthub.rag.configuration import MilvusSettings, RagSettings, RerankSettings, parse_vector_url
from agenthub.rag.embedding.configuration import EmbeddingSettings, EndpointSettings
from agenthub.rag.parsing.limits import ParsingLimits
from agenthub.storage.configuration import BigQuerySettings, StorageSettings, bigquery_storage, parse_database_url
from agenthub.storage.warehouse.configuration import WarehouseSettings
from agenthub.variables import VARIABLES, Variable

LogFormat = Literal["auto", "json", "text"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogStream = Literal["stderr", "stdout"]
T = TypeVar("T")

_ON: Final = frozenset({"1", "on", "true", "yes"})
_OFF: Final = frozenset({"0", "off", "false", "no"})
_VARIABLES: Final = {variable.name: variable for variable in VARIABLES}
_FAILPOINT: Final = re.compile(r"[^=,]+=(kill|error)(@[0-9]+)?\Z")
_NAMESPACE: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}\Z")
MIN_SECRET_LENGTH: Final = 16


@dataclass(frozen=True, slots=True)
class WebSettings:
    """How this process listens and whom it trusts."""

    host: str
    port: int
    process_count: int
    thread_count: int
    worker_timeout_seconds: int
    trusted_proxy_hops: int
    max_body_bytes: int
    max_bundle_bytes: int
    metrics_token: str | None = field(default=None, repr=False)

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How log lines look and where they go. `auto` is text on a terminal, JSON elsewhere."""

    format: LogFormat
    level: LogLevel
    stream: LogStream


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """The first owner, and how long a session lasts unused (`idle`) and at all (`absolute`)."""

    owner_email: str | None
    owner_password: str | None = field(repr=False)
    session_idle_seconds: int
    session_absolute_seconds: int
    default_owner_allowed: bool
    """True only with the embedded default storage on a loopback address: there owner@agenthub.com / password may exist."""


@dataclass(frozen=True, slots=True)
class JobSettings:
    """Whether this server process works on jobs beside its requests, and how long a runner that died keeps others from its job."""

    enabled: bool
    lease_seconds: int


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a process was told. Made once at the start; nothing else reads the environment."""

    storage: StorageSettings
    warehouse: WarehouseSettings | None
    """Where events flow to; None without one."""
    cache: CacheSettings
    volume_path: Path
    milvus: MilvusSettings | None
    """Where chunks and vectors are; None: on the volume."""
    rag: RagSettings
    parsing: ParsingLimits
    fetching: FetchSettings
    embedding: EmbeddingSettings
    llm: LlmSettings | None
    rerank: RerankSettings | None
    rag_history_seconds: int
    web: WebSettings
    log: LogSettings
    accounts: AccountSettings
    services: tuple[str, ...]
    result_cache: bool
    warming: bool
    rate_limits: bool
    rates: RateSettings
    maintenance: bool
    jobs: JobSettings
    failpoints: str
    metrics_folder: str | None

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Settings:
        """The settings of a mapping such as `os.environ`; an empty value counts as unset.

        Raises: SettingsError naming every wrong, unknown or contradictory variable at once.
        """
        reader = _Reader(environment)
        reader.refuse_unknown()
        storage, embedded_default = _storage(reader)
        web = _web(reader)
        settings = cls(
            storage=storage,
            warehouse=_warehouse(reader),
            cache=_cache(reader),
            volume_path=reader.path("VECTOR_STORE_BASE_PATH"),
            milvus=_milvus(reader, web.process_count),
            rag=RagSettings(segment_cache_bytes=reader.number("AGENTHUB_SEGMENT_CACHE_BYTES", 0, 2**40)),
            parsing=ParsingLimits(file_bytes=web.max_body_bytes),
            fetching=_fetching(reader, web.max_body_bytes),
            embedding=_embedding(reader),
            llm=_llm(reader),
            rerank=_rerank(reader),
            rag_history_seconds=reader.number("AGENTHUB_RAG_HISTORY_SECONDS", 0, 10 * 366 * 86400),
            web=web,
            log=_log(reader),
            accounts=_accounts(reader, embedded_default and web.on_loopback),
            services=_services(reader),
            result_cache=reader.switch("AGENTHUB_RESULT_CACHE"),
            warming=reader.switch("AGENTHUB_WARMING"),
            rate_limits=reader.switch("AGENTHUB_RATE_LIMITS"),
            maintenance=reader.switch("AGENTHUB_MAINTENANCE"),
            jobs=JobSettings(reader.switch("AGENTHUB_JOBS"), reader.number("AGENTHUB_JOB_LEASE_SECONDS", 1, 600)),
            rates=_rates(reader),
            failpoints=_failpoints(reader),
            metrics_folder=reader.optional("PROMETHEUS_MULTIPROC_DIR"),
        )
        reader.finish()
        return settings


class _Reader:
    """Reads variables by name with the defaults of the table, collecting problems instead of raising them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.problems: list[str] = []

    def refuse_unknown(self) -> None:
        for name in sorted(self.environment):
            if name.startswith("AGENTHUB_") and name not in _VARIABLES:
                near = difflib.get_close_matches(name, _VARIABLES, n=1)
                self.problems.append(f"{name} is not a variable of AgentHub" + (f"; did you mean {near[0]}?" if near else ""))

    def optional(self, name: str) -> str | None:
        value = self.environment.get(name, "").strip()
        return value or None

    def text(self, name: str) -> str:
        return self.optional(name) or _VARIABLES[name].default

    def number(self, name: str, lowest: int, highest: int) -> int:
        text = self.text(name)
        if text.isascii() and text.isdigit() and lowest <= int(text[:20]) <= highest:
            return int(text)
        self.problems.append(f"{name} must be a whole number from {lowest} to {highest}, not {text!r}")
        return int(_VARIABLES[name].default)

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        text = self.text(name).lower()
        if text in choices:
            return text
        self.problems.append(f"{name} must be one of {', '.join(choices)}, not {text!r}")
        return _VARIABLES[name].default

    def switch(self, name: str) -> bool:
        text = self.text(name).lower()
        if text not in _ON | _OFF:
            self.problems.append(f"{name} must be on or off, not {text!r}")
        return text in _ON

    def path(self, name: str) -> Path:
        text = self.text(name)
        if "\x00" in text:
            self.problems.append(f"{name} is not a path")
            text = _VARIABLES[name].default
        return Path(text).expanduser().absolute()

    def attempt(self, make: Callable[[], T], fallback: T) -> T:
        """What `make` makes; its problems are noted and `fallback` is used when it raises SettingsError."""
        try:
            return make()
        except SettingsError as error:
            self.problems.extend(error.problems)
            return fallback

    def finish(self) -> None:
        if self.problems:
            raise SettingsError(list(dict.fromkeys(self.problems)))


def _storage(reader: _Reader) -> tuple[StorageSettings, bool]:
    """The storage, and whether it is the embedded default that nobody asked for."""
    url, project = reader.optional("DATABASE_URL"), reader.optional("GOOGLE_CLOUD_PROJECT")
    bigquery = _bigquery(reader, project or "unset-project")
    if url is None and project is not None:
        return reader.attempt(lambda: bigquery_storage(bigquery), StorageSettings("memory", "memory://")), False
    embedded = f"sqlite:///{Path('data/agenthub.sqlite3').absolute()}"
    found = reader.attempt(lambda: parse_database_url(url or embedded), StorageSettings("memory", "memory://"))
    settings = replace(
        found,
        pool_size=reader.number("AGENTHUB_POOL_CONNECTIONS", 1, 500),
        on_cloud_run=reader.optional("K_SERVICE") is not None,
        accept_ephemeral_sqlite=reader.switch("AGENTHUB_ACCEPT_EPHEMERAL_SQLITE"),
    )
    return settings, url is None


def _bigquery(reader: _Reader, project: str) -> BigQuerySettings:
    return BigQuerySettings(
        project,
        reader.text("BIGQUERY_DATASET"),
        reader.text("BIGQUERY_LOCATION"),
        reader.optional("BIGQUERY_EMULATOR_HOST"),
        reader.number("AGENTHUB_BIGQUERY_TIMEOUT_SECONDS", 5, 600),
        reader.number("AGENTHUB_BIGQUERY_MAX_BYTES", 10 * 2**20, 2**50),
    )


def _warehouse(reader: _Reader) -> WarehouseSettings | None:
    """With a database and a project, the project's BigQuery is the warehouse."""
    enabled = reader.switch("AGENTHUB_WAREHOUSE")
    interval = reader.number("AGENTHUB_WAREHOUSE_INTERVAL_SECONDS", 1, 3600)
    rows = reader.number("AGENTHUB_WAREHOUSE_BATCH_ROWS", 1, 1000)
    size = reader.number("AGENTHUB_WAREHOUSE_BATCH_BYTES", 1024, 8 * 2**20)
    project = reader.optional("GOOGLE_CLOUD_PROJECT")
    if project is None or reader.optional("DATABASE_URL") is None:
        return None
    bigquery = _bigquery(reader, project)
    reader.attempt(lambda: bigquery_storage(bigquery), None)
    return WarehouseSettings(bigquery, enabled, interval, rows, size)


def _cache(reader: _Reader) -> CacheSettings:
    ca_file = reader.optional("AGENTHUB_CACHE_CA_FILE")
    memcached, redis, secret = _memcached(reader, ca_file), reader.optional("REDIS_URL"), reader.optional("AGENTHUB_CACHE_KEY")
    if memcached and redis:
        reader.problems.append("MEMCACHED_SERVERS and REDIS_URL are both set: choose one cache")
    if secret is not None and len(secret) < MIN_SECRET_LENGTH:
        reader.problems.append(f"AGENTHUB_CACHE_KEY must have at least {MIN_SECRET_LENGTH} characters")
    redis_tls = redis is not None and redis.startswith(("rediss:", "valkeys:"))
    if ca_file and not redis_tls and not (memcached and memcached.tls):
        reader.problems.append("AGENTHUB_CACHE_CA_FILE is set, but no cache server is spoken to by TLS: MEMCACHED_TLS=on, or rediss://")
    deployment = reader.text("AGENTHUB_CACHE_NAMESPACE")
    if not _NAMESPACE.match(deployment):
        reader.problems.append("AGENTHUB_CACHE_NAMESPACE must be 1 to 48 characters of a-z, 0-9, - and _")
    return CacheSettings(
        memcached,
        reader.attempt(lambda: check_redis_url(redis), None) if redis else None,
        ca_file if redis_tls else None,
        max_bytes=reader.number("AGENTHUB_CACHE_BYTES", 0, 2**40),
        secret=secret,
        deployment=deployment,
    )


def _rates(reader: _Reader) -> RateSettings:
    return RateSettings(*(reader.number(f"AGENTHUB_RATE_LIMIT_{name}", 1, 10**9) for name in ("KEY", "USER", "ORGANIZATION", "ADDRESS")))


def _memcached(reader: _Reader, ca_file: str | None) -> MemcachedSettings | None:
    text, username, password = (reader.optional(f"MEMCACHED_{name}") for name in ("SERVERS", "USERNAME", "PASSWORD"))
    protocols: dict[str, Protocol] = {value: value for value in PROTOCOLS}
    protocol, tls = protocols[reader.choice("MEMCACHED_PROTOCOL", PROTOCOLS)], reader.switch("MEMCACHED_TLS")
    if (username is None) != (password is None):
        reader.problems.append("MEMCACHED_USERNAME and MEMCACHED_PASSWORD go together: one of them is missing")
    if text is None:
        if username or password:
            reader.problems.append("MEMCACHED_USERNAME is set without MEMCACHED_SERVERS: say which servers it is for")
        return None
    if protocol != "ascii" and not username:
        reader.problems.append(f"MEMCACHED_PROTOCOL={protocol} needs MEMCACHED_USERNAME and MEMCACHED_PASSWORD")
    if any(c.isspace() for c in (username or "")) or any(c in "\r\n" for c in (password or "")):
        reader.problems.append("MEMCACHED_USERNAME can't hold white space, MEMCACHED_PASSWORD no line end")
    none: tuple[tuple[str, int], ...] = ()
    servers = reader.attempt(lambda: parse_servers(text), none)
    return MemcachedSettings(servers, username, password, protocol, tls, ca_file if tls else None)


def _milvus(reader: _Reader, process_count: int) -> MilvusSettings | None:
    url, token = reader.optional("VECTOR_STORE_URL"), reader.optional("VECTOR_STORE_TOKEN")
    seconds = reader.number("VECTOR_STORE_TIMEOUT_SECONDS", 1, 300)
    if url is None:
        if token:
            reader.problems.append("VECTOR_STORE_TOKEN is set without VECTOR_STORE_URL: say which server it is for")
        return None
    settings = replace(reader.attempt(lambda: parse_vector_url(url), MilvusSettings("http://")), token=token, timeout_seconds=seconds)
    if settings.lite and process_count > 1:
        reader.problems.append(
            "VECTOR_STORE_URL names a file of Milvus Lite, which one process can open: set WEB_CONCURRENCY=1 to try it, "
            "or give the URL of a Milvus server"
        )
    return settings


def _embedding(reader: _Reader) -> EmbeddingSettings:
    base_url, model = reader.optional("EMBEDDING_BASE_URL"), reader.optional("EMBEDDING_MODEL")
    api_key = reader.optional("EMBEDDING_API_KEY")
    more = tuple(dict.fromkeys(part.strip() for part in reader.text("EMBEDDING_MODELS").split(",") if part.strip()))
    if base_url is None:
        if api_key:
            reader.problems.append("EMBEDDING_API_KEY is set without EMBEDDING_BASE_URL: say which endpoint the key is for")
        if more:
            reader.problems.append("EMBEDDING_MODELS is set without EMBEDDING_BASE_URL: say which endpoint has these models")
        return EmbeddingSettings(default_model=model)
    if not base_url.lower().startswith(("http://", "https://")):
        reader.problems.append("EMBEDDING_BASE_URL must begin with http:// or https://")
    if model is None:
        reader.problems.append("EMBEDDING_BASE_URL is set without EMBEDDING_MODEL: say which of the endpoint's models to use")
    return EmbeddingSettings(endpoint=EndpointSettings(base_url, model or "", api_key), more_models=more)


def _llm(reader: _Reader) -> LlmSettings | None:
    base_url, model, api_key = (reader.optional(f"LLM_{name}") for name in ("BASE_URL", "MODEL", "API_KEY"))
    more = [part.strip() for part in reader.text("LLM_MODELS").split(",") if part.strip()]
    numbers = {
        "max_tokens": reader.number("LLM_MAX_TOKENS", 1, MAX_TOKENS),
        "wait_seconds": reader.number("LLM_WAIT_SECONDS", 1, 600),
        "whole_seconds": reader.number("LLM_WHOLE_SECONDS", 1, 3600),
        "concurrent": reader.number("LLM_CONCURRENCY", 1, 256),
    }
    if base_url is None:
        for name, value in (("LLM_API_KEY", api_key), ("LLM_MODEL", model), ("LLM_MODELS", more)):
            if value:
                reader.problems.append(f"{name} is set without LLM_BASE_URL: say which endpoint it is for")
        return None
    if model is None:
        reader.problems.append("LLM_BASE_URL is set without LLM_MODEL: say which of the endpoint's models to ask")
    settings = LlmSettings(base_url, tuple(dict.fromkeys([model or "?", *more])), api_key, **numbers)
    reader.problems.extend(settings.problems())
    return settings


def _fetching(reader: _Reader, max_bytes: int) -> FetchSettings:
    none: tuple[Network, ...] = ()
    networks = reader.attempt(lambda: parse_networks(reader.text("AGENTHUB_FETCH_ALLOWED_NETWORKS")), none)
    return FetchSettings(plain_http=reader.switch("AGENTHUB_FETCH_PLAIN_HTTP"), allowed_networks=networks, max_bytes=max_bytes)


def _rerank(reader: _Reader) -> RerankSettings | None:
    base_url, model, api_key = (reader.optional(f"RERANK_{name}") for name in ("BASE_URL", "MODEL", "API_KEY"))
    if base_url is None:
        for name, value in (("RERANK_API_KEY", api_key), ("RERANK_MODEL", model)):
            if value:
                reader.problems.append(f"{name} is set without RERANK_BASE_URL: say which endpoint it is for")
        return None
    if not base_url.lower().startswith(("http://", "https://")):
        reader.problems.append("RERANK_BASE_URL must begin with http:// or https://")
    if model is None:
        reader.problems.append("RERANK_BASE_URL is set without RERANK_MODEL: say which of the endpoint's models to use")
    return RerankSettings(base_url, model or "?", api_key)


def _web(reader: _Reader) -> WebSettings:
    token = reader.optional("AGENTHUB_METRICS_TOKEN")
    if token is not None and len(token) < MIN_SECRET_LENGTH:
        reader.problems.append(f"AGENTHUB_METRICS_TOKEN must have at least {MIN_SECRET_LENGTH} characters")
    return WebSettings(
        host=reader.text("AGENTHUB_HOST"),
        port=reader.number("PORT", 1, 65535),
        process_count=reader.number("WEB_CONCURRENCY", 1, 256),
        thread_count=reader.number("AGENTHUB_THREADS", 1, 256),
        worker_timeout_seconds=reader.number("AGENTHUB_WORKER_TIMEOUT_SECONDS", 0, 3600),
        trusted_proxy_hops=reader.number("AGENTHUB_TRUSTED_PROXY_HOPS", 0, 10),
        max_body_bytes=reader.number("AGENTHUB_MAX_BODY_BYTES", 1024 * 1024, 1024**3),
        max_bundle_bytes=reader.number("AGENTHUB_MAX_BUNDLE_BYTES", 1024 * 1024, 1024**4),
        metrics_token=token,
    )


def _log(reader: _Reader) -> LogSettings:
    formats: dict[str, LogFormat] = {value: value for value in get_args(LogFormat)}
    levels: dict[str, LogLevel] = {value: value for value in get_args(LogLevel)}
    streams: dict[str, LogStream] = {value: value for value in get_args(LogStream)}
    return LogSettings(
        formats[reader.choice("AGENTHUB_LOG_FORMAT", tuple(formats))],
        levels[reader.choice("AGENTHUB_LOG_LEVEL", tuple(levels))],
        streams[reader.choice("AGENTHUB_LOG_STREAM", tuple(streams))],
    )


def _accounts(reader: _Reader, default_owner_allowed: bool) -> AccountSettings:
    email, password = reader.optional("AGENTHUB_OWNER_EMAIL"), reader.optional("AGENTHUB_OWNER_PASSWORD")
    if (email is None) != (password is None):
        missing = "AGENTHUB_OWNER_PASSWORD" if password is None else "AGENTHUB_OWNER_EMAIL"
        reader.problems.append(f"{missing} is missing: the first owner needs both an e-mail address and a password")
    idle = reader.number("AGENTHUB_SESSION_IDLE_SECONDS", 60, 366 * 86400)
    absolute = reader.number("AGENTHUB_SESSION_ABSOLUTE_SECONDS", 60, 366 * 86400)
    if idle > absolute:
        reader.problems.append("AGENTHUB_SESSION_IDLE_SECONDS is more than AGENTHUB_SESSION_ABSOLUTE_SECONDS")
    return AccountSettings(email, password, idle, absolute, default_owner_allowed)


def _services(reader: _Reader) -> tuple[str, ...]:
    patterns = tuple(part.strip() for part in reader.text("AGENTHUB_SERVICES").split(",") if part.strip())
    if not patterns:
        reader.problems.append("AGENTHUB_SERVICES names no service")
    return patterns


def _failpoints(reader: _Reader) -> str:
    text = reader.text("AGENTHUB_FAILPOINTS")
    if text and not all(_FAILPOINT.match(part) for part in text.split(",")):
        reader.problems.append("AGENTHUB_FAILPOINTS must look like name=kill@3 or name=error@1")
        return ""
    return text


__all__ = ["VARIABLES", "AccountSettings", "LogSettings", "Settings", "Variable", "WebSettings"]
