"""Settings: one mapping in, one frozen object or all problems out."""

from __future__ import annotations

from pathlib import Path

import pytest

from agenthub.core.errors import SettingsError
from agenthub.settings import VARIABLES, Settings
from agenthub.storage.configuration import BigQuerySettings


def problems_of(environment: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(environment)
    return "\n".join(caught.value.problems)


def test_nothing_set_means_the_embedded_defaults() -> None:
    settings = Settings.from_env({})
    assert settings.storage.backend == "sqlite"
    assert settings.storage.url.endswith("/data/agenthub.sqlite3")
    assert settings.volume_path == Path("data/knowledge").absolute()
    assert settings.web.port == 5000
    assert settings.web.on_loopback
    assert settings.services == ("*",)
    assert settings.result_cache and settings.rate_limits


def test_reading_is_pure_and_equal_for_equal_mappings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "1234")
    assert Settings.from_env({}) == Settings.from_env({})
    assert Settings.from_env({}).web.port == 5000


def test_every_problem_is_reported_at_once_and_by_name() -> None:
    text = problems_of(
        {
            "PORT": "http",
            "AGENTHUB_THREADS": "0",
            "AGENTHUB_LOG_FORMAT": "xml",
            "AGENTHUB_RESULT_CACHE": "maybe",
            "AGENTHUB_OWNER_EMAIL": "a@example.com",
            "EMBEDDING_API_KEY": "k",
            "AGENTHUB_SERVISES": "knowledge.*",
            "MEMCACHED_SERVERS": "a:1",
            "REDIS_URL": "redis://b",
            "DATABASE_URL": "mysql://x/y",
            "AGENTHUB_FAILPOINTS": "boom",
        }
    )
    for name in (
        "PORT",
        "AGENTHUB_THREADS",
        "AGENTHUB_LOG_FORMAT",
        "AGENTHUB_RESULT_CACHE",
        "AGENTHUB_OWNER_PASSWORD",
        "EMBEDDING_BASE_URL",
        "did you mean AGENTHUB_SERVICES?",
        "MEMCACHED_SERVERS and REDIS_URL",
        "mysql",
        "AGENTHUB_FAILPOINTS",
    ):
        assert name in text


def test_an_empty_value_counts_as_unset() -> None:
    assert Settings.from_env({variable.name: "" for variable in VARIABLES}) == Settings.from_env({})


def test_a_project_asks_for_bigquery_unless_a_database_url_wins() -> None:
    storage = Settings.from_env({"GOOGLE_CLOUD_PROJECT": "some-project", "BIGQUERY_LOCATION": "EU"}).storage
    assert (storage.backend, storage.describe()) == ("bigquery", "bigquery://some-project/agenthub_data")
    assert storage.bigquery == BigQuerySettings("some-project", "agenthub_data", "EU", None, 30, 10 * 2**30)
    assert Settings.from_env({"GOOGLE_CLOUD_PROJECT": "some-project", "DATABASE_URL": "memory://"}).storage.backend == "memory"
    wrong = {"GOOGLE_CLOUD_PROJECT": "P", "BIGQUERY_DATASET": "a-b", "BIGQUERY_LOCATION": "?", "BIGQUERY_EMULATOR_HOST": "localhost"}
    text = problems_of(wrong | {"AGENTHUB_BIGQUERY_TIMEOUT_SECONDS": "1", "AGENTHUB_BIGQUERY_MAX_BYTES": "1"})
    assert all(name in text for name in [*wrong, "AGENTHUB_BIGQUERY_TIMEOUT_SECONDS", "AGENTHUB_BIGQUERY_MAX_BYTES"])


def test_shared_caches_are_read() -> None:
    memcached = Settings.from_env({"MEMCACHED_SERVERS": "a:1,b", "MEMCACHED_USERNAME": "u", "MEMCACHED_PASSWORD": "p"}).cache.memcached
    assert memcached is not None
    assert memcached.servers == (("a", 1), ("b", 11211))
    assert (memcached.username, memcached.protocol, memcached.tls) == ("u", "ascii", False)
    assert Settings.from_env({"REDIS_URL": "valkeys://h"}).cache.redis_url == "rediss://h"
    assert not Settings.from_env({}).cache.shared


def test_authorities_go_to_the_cache_that_speaks_tls() -> None:
    given = {"AGENTHUB_CACHE_CA_FILE": "/ca.pem"}
    memcached = Settings.from_env({**given, "MEMCACHED_SERVERS": "a", "MEMCACHED_TLS": "on"}).cache.memcached
    assert memcached is not None and memcached.ca_file == "/ca.pem"
    assert Settings.from_env({**given, "REDIS_URL": "rediss://h"}).cache.redis_ca_file == "/ca.pem"


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"MEMCACHED_SERVERS": "http://a"}, "MEMCACHED_SERVERS"),
        ({"MEMCACHED_SERVERS": "a:1", "MEMCACHED_USERNAME": "u"}, "MEMCACHED_PASSWORD"),
        ({"MEMCACHED_USERNAME": "u", "MEMCACHED_PASSWORD": "p"}, "MEMCACHED_SERVERS"),
        ({"MEMCACHED_SERVERS": "a:1", "MEMCACHED_PROTOCOL": "sasl"}, "MEMCACHED_USERNAME"),
        ({"MEMCACHED_SERVERS": "a:1", "MEMCACHED_USERNAME": "u v", "MEMCACHED_PASSWORD": "p"}, "white space"),
        ({"MEMCACHED_PROTOCOL": "udp"}, "MEMCACHED_PROTOCOL"),
        ({"REDIS_URL": "http://h"}, "REDIS_URL"),
        ({"AGENTHUB_CACHE_CA_FILE": "/ca.pem"}, "AGENTHUB_CACHE_CA_FILE"),
        ({"AGENTHUB_CACHE_CA_FILE": "/ca.pem", "MEMCACHED_SERVERS": "a"}, "AGENTHUB_CACHE_CA_FILE"),
        ({"AGENTHUB_CACHE_CA_FILE": "/ca.pem", "REDIS_URL": "redis://h"}, "AGENTHUB_CACHE_CA_FILE"),
        ({"AGENTHUB_CACHE_KEY": "short-canary"}, "AGENTHUB_CACHE_KEY"),
        ({"AGENTHUB_CACHE_NAMESPACE": "A B"}, "AGENTHUB_CACHE_NAMESPACE"),
    ],
)
def test_wrong_caches_are_refused_by_name(environment: dict[str, str], named: str) -> None:
    text = problems_of(environment)
    assert named in text
    assert "canary" not in text


def test_the_vector_engine_is_read() -> None:
    assert Settings.from_env({}).milvus is None
    server = Settings.from_env({"VECTOR_STORE_URL": "http://milvus:19530", "VECTOR_STORE_TOKEN": "root:Milvus"}).milvus
    assert server is not None
    assert (server.url, server.token, server.lite, server.timeout_seconds) == ("http://milvus:19530", "root:Milvus", False, 10)
    lite = Settings.from_env({"VECTOR_STORE_URL": "data/vectors.db", "WEB_CONCURRENCY": "1"}).milvus
    assert lite is not None
    assert (lite.url, lite.lite) == (str(Path("data/vectors.db").absolute()), True)


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"VECTOR_STORE_URL": "vectors.db"}, "WEB_CONCURRENCY=1"),
        ({"VECTOR_STORE_URL": "milvus:19530"}, "http://HOST:19530"),
        ({"VECTOR_STORE_URL": "tcp://milvus:19530"}, "unknown scheme tcp"),
        ({"VECTOR_STORE_URL": "http://u:canary@milvus"}, "VECTOR_STORE_TOKEN"),
        ({"VECTOR_STORE_TOKEN": "canary"}, "VECTOR_STORE_URL"),
        ({"VECTOR_STORE_URL": "http://h", "VECTOR_STORE_TIMEOUT_SECONDS": "0"}, "VECTOR_STORE_TIMEOUT_SECONDS"),
    ],
)
def test_wrong_vector_engines_are_refused_by_name(environment: dict[str, str], named: str) -> None:
    text = problems_of(environment)
    assert named in text
    assert "canary" not in text


def test_no_secret_is_shown() -> None:
    settings = Settings.from_env(
        {
            "DATABASE_URL": "postgresql://u:canary-one@h/d",
            "AGENTHUB_OWNER_EMAIL": "a@example.com",
            "AGENTHUB_OWNER_PASSWORD": "canary-two",
            "AGENTHUB_METRICS_TOKEN": "canary-three-long-enough",
            "EMBEDDING_BASE_URL": "https://h/v1",
            "EMBEDDING_MODEL": "m",
            "EMBEDDING_API_KEY": "canary-four",
            "MEMCACHED_SERVERS": "h:1",
            "MEMCACHED_USERNAME": "u",
            "MEMCACHED_PASSWORD": "canary-five",
            "AGENTHUB_CACHE_KEY": "canary-six-long-enough",
            "VECTOR_STORE_URL": "https://h:19530",
            "VECTOR_STORE_TOKEN": "u:canary-seven",
        }
    )
    assert "canary" not in repr(settings)
    assert "canary" not in settings.storage.describe()


def test_wrong_values_of_secrets_are_not_echoed() -> None:
    assert "short-canary" not in problems_of({"AGENTHUB_METRICS_TOKEN": "short-canary"})


@pytest.mark.parametrize(
    ("environment", "allowed"),
    [
        ({}, True),
        ({"AGENTHUB_HOST": "localhost"}, True),
        ({"AGENTHUB_HOST": "::1"}, True),
        ({"AGENTHUB_HOST": "0.0.0.0"}, False),
        ({"AGENTHUB_HOST": "10.0.0.7"}, False),
        ({"AGENTHUB_HOST": "example.com"}, False),
        ({"DATABASE_URL": "memory://"}, False),
        ({"DATABASE_URL": "postgresql://h/d"}, False),
    ],
)
def test_the_default_owner_is_for_the_embedded_default_on_loopback_only(environment: dict[str, str], allowed: bool) -> None:
    assert Settings.from_env(environment).accounts.default_owner_allowed is allowed


def test_cloud_run_is_noticed() -> None:
    assert Settings.from_env({"K_SERVICE": "x"}).storage.on_cloud_run


def test_session_times_must_not_contradict() -> None:
    text = problems_of({"AGENTHUB_SESSION_IDLE_SECONDS": "7200", "AGENTHUB_SESSION_ABSOLUTE_SECONDS": "3600"})
    assert "AGENTHUB_SESSION_IDLE_SECONDS" in text


def test_each_variable_is_listed_once_with_a_description() -> None:
    names = [variable.name for variable in VARIABLES]
    assert len(names) == len(set(names))
    assert all(variable.description for variable in VARIABLES)
    assert {variable.name for variable in VARIABLES if variable.secret} >= {"DATABASE_URL", "EMBEDDING_API_KEY", "AGENTHUB_OWNER_PASSWORD"}


def test_the_defaults_of_the_table_are_accepted_as_values() -> None:
    stated = {variable.name: variable.default for variable in VARIABLES if variable.default}
    assert Settings.from_env(stated) == Settings.from_env({})


def test_a_database_and_a_project_make_a_warehouse() -> None:
    project = {"GOOGLE_CLOUD_PROJECT": "some-project"}
    assert Settings.from_env(project).warehouse is None
    assert Settings.from_env({"DATABASE_URL": "memory://"}).warehouse is None
    both = Settings.from_env({"DATABASE_URL": "memory://", **project, "AGENTHUB_WAREHOUSE_BATCH_ROWS": "7"})
    assert both.storage.backend == "memory"
    assert both.warehouse is not None
    assert (both.warehouse.bigquery.project, both.warehouse.batch_rows, both.warehouse.enabled) == ("some-project", 7, True)
    assert problems_of({"DATABASE_URL": "memory://", "GOOGLE_CLOUD_PROJECT": "UPPER"}).count("GOOGLE_CLOUD_PROJECT") == 1
