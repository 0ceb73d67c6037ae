"""Every environment variable AgentHub reads. `config/example.env` and the README are checked against this list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable. An empty `default` means unset; a `secret` is never logged or shown."""

    name: str
    default: str
    description: str
    secret: bool = False


VARIABLES: Final = (
    Variable(
        "DATABASE_URL", "", "Where rows live: postgresql://…, sqlite:////absolute/path.db or memory://. Unset: data/agenthub.sqlite3", True
    ),
    Variable(
        "GOOGLE_CLOUD_PROJECT",
        "",
        "Rows in this project's BigQuery; with DATABASE_URL rows are there, and this is the warehouse that events flow to",
    ),
    Variable("BIGQUERY_DATASET", "agenthub_data", "The BigQuery dataset"),
    Variable("BIGQUERY_LOCATION", "US", "Where `make migrate` makes the dataset, such as EU or europe-west3"),
    Variable("BIGQUERY_EMULATOR_HOST", "", "http://HOST:PORT of a BigQuery emulator, asked without credentials"),
    Variable("AGENTHUB_BIGQUERY_TIMEOUT_SECONDS", "30", "How long a read or a commit on BigQuery may take; then the answer is 503"),
    Variable("AGENTHUB_BIGQUERY_MAX_BYTES", "10737418240", "The most that one BigQuery statement may bill"),
    Variable(
        "AGENTHUB_WAREHOUSE",
        "on",
        "With DATABASE_URL and GOOGLE_CLOUD_PROJECT events flow to BigQuery. off: not from this process; `warehouse run` does",
    ),
    Variable("AGENTHUB_WAREHOUSE_INTERVAL_SECONDS", "10", "How often what is new is sent to the warehouse"),
    Variable("AGENTHUB_WAREHOUSE_BATCH_ROWS", "500", "The most rows sent to the warehouse at once"),
    Variable("AGENTHUB_WAREHOUSE_BATCH_BYTES", "1048576", "The most bytes sent to the warehouse at once"),
    Variable("VECTOR_STORE_BASE_PATH", "data/knowledge", "The folder or mounted bucket for documents, vectors and indexes"),
    Variable(
        "VECTOR_STORE_URL",
        "",
        "Chunks and vectors in Milvus: http://host:19530, or a path ending in .db for Milvus Lite. Unset: on the volume",
    ),
    Variable("VECTOR_STORE_TOKEN", "", "What that Milvus asks for: user:password or an API key", True),
    Variable("VECTOR_STORE_TIMEOUT_SECONDS", "10", "How long one question to Milvus may take"),
    Variable(
        "MEMCACHED_SERVERS",
        "",
        "A cache shared by all processes: memcached servers, host:port,host:port. Unset: each process its own",
        True,
    ),
    Variable("MEMCACHED_USERNAME", "", "The user name that the memcached servers ask for"),
    Variable("MEMCACHED_PASSWORD", "", "Its password", True),
    Variable("MEMCACHED_PROTOCOL", "ascii", "How to log in: ascii (memcached -Y), memcachier (its text protocol) or sasl (memcached -S)"),
    Variable("MEMCACHED_TLS", "off", "on: speak TLS to the memcached servers and check their certificates"),
    Variable("REDIS_URL", "", "A shared cache on Redis or Valkey instead: redis://:password@host:6379/0, or rediss://… for TLS", True),
    Variable(
        "AGENTHUB_CACHE_CA_FILE",
        "",
        "Certificates (PEM) of the authorities that cache servers' certificates are checked against. Unset: the system's",
    ),
    Variable(
        "AGENTHUB_CACHE_KEY",
        "",
        "Signs what is kept on cache servers; the same for all processes. Unset: a random one in the database",
        True,
    ),
    Variable("AGENTHUB_CACHE_NAMESPACE", "agenthub", "Separates deployments that share a cache server"),
    Variable("EMBEDDING_BASE_URL", "", "An OpenAI-compatible endpoint for embeddings, such as https://host/v1. Unset: the embedded model"),
    Variable("EMBEDDING_API_KEY", "", "The endpoint's key", True),
    Variable("EMBEDDING_MODEL", "", "The default embedding model; required with EMBEDDING_BASE_URL"),
    Variable("EMBEDDING_MODELS", "", "Further models of the endpoint that knowledge bases may have, or move to, separated by commas"),
    Variable("LLM_BASE_URL", "", "An OpenAI-compatible endpoint for chat completions, such as https://host/v1. Unset: extractive answers"),
    Variable("LLM_API_KEY", "", "The endpoint's key", True),
    Variable("LLM_MODEL", "", "The model to ask; required with LLM_BASE_URL"),
    Variable("LLM_MODELS", "", "Further models that agents and callers may choose, separated by commas"),
    Variable("LLM_MAX_TOKENS", "1024", "The longest answer, in the model's tokens, where the caller asks for nothing else"),
    Variable("LLM_WAIT_SECONDS", "30", "How long to wait for the first and each further piece of an answer"),
    Variable("LLM_WHOLE_SECONDS", "120", "How long an answer may take in all"),
    Variable("LLM_CONCURRENCY", "4", "Answers that one process lets the model write at once; keep it below AGENTHUB_THREADS"),
    Variable("RERANK_BASE_URL", "", "A reranking endpoint (Cohere, Jina, vLLM: POST …/rerank), for searches that ask for it"),
    Variable("RERANK_API_KEY", "", "The endpoint's key", True),
    Variable("RERANK_MODEL", "", "The reranking model; required with RERANK_BASE_URL"),
    Variable("AGENTHUB_RAG_HISTORY_SECONDS", "7776000", "How long questions and their answers are kept; 0 keeps none"),
    Variable("PORT", "5000", "The port to listen on"),
    Variable("WEB_CONCURRENCY", "2", "How many processes gunicorn starts"),
    Variable("AGENTHUB_THREADS", "8", "Threads per process: how many requests it answers at once"),
    Variable("AGENTHUB_WORKER_TIMEOUT_SECONDS", "60", "gunicorn replaces a process that is frozen for so long; 0 never does"),
    Variable("AGENTHUB_HOST", "127.0.0.1", "The address to listen on; under gunicorn 0.0.0.0 where PORT is set"),
    Variable(
        "AGENTHUB_SERVICES", "*", "Which services this process serves: names and patterns, such as knowledge.*,platform.authentication"
    ),
    Variable("AGENTHUB_OWNER_EMAIL", "", "The first owner, made at the first start"),
    Variable("AGENTHUB_OWNER_PASSWORD", "", "The first owner's password", True),
    Variable("AGENTHUB_SESSION_IDLE_SECONDS", "86400", "An unused session ends after this time"),
    Variable("AGENTHUB_SESSION_ABSOLUTE_SECONDS", "2592000", "Any session ends after this time"),
    Variable("AGENTHUB_TRUSTED_PROXY_HOPS", "0", "How many proxies in front set X-Forwarded-For and -Proto; 0 ignores both headers"),
    Variable("AGENTHUB_MAX_BODY_BYTES", "33554432", "The largest request body, uploads included"),
    Variable("AGENTHUB_MAX_BUNDLE_BYTES", "8589934592", "The largest bundle that an import takes; it passes through a temporary file"),
    Variable("AGENTHUB_FETCH_PLAIN_HTTP", "off", "on: documents may also be fetched from http:// addresses of the Internet"),
    Variable(
        "AGENTHUB_FETCH_ALLOWED_NETWORKS",
        "",
        "Private networks that documents may be fetched from, such as 10.2.0.0/16: whoever may upload can read them then",
    ),
    Variable("AGENTHUB_CACHE_BYTES", "67108864", "Memory for the cache of each process"),
    Variable("AGENTHUB_SEGMENT_CACHE_BYTES", "536870912", "Memory for opened indexes of each process"),
    Variable("AGENTHUB_POOL_CONNECTIONS", "5", "Database connections kept open per process"),
    Variable(
        "AGENTHUB_ACCEPT_EPHEMERAL_SQLITE",
        "off",
        "Accept SQLite where its file is lost or unsafe (Cloud Run, memory and network file systems)",
    ),
    Variable(
        "AGENTHUB_METRICS_TOKEN", "", "A bearer token for /metrics. Unset: /metrics answers this machine and tokens with metrics:read", True
    ),
    Variable("AGENTHUB_LOG_FORMAT", "auto", "auto (text on a terminal, JSON elsewhere), json or text"),
    Variable("AGENTHUB_LOG_LEVEL", "info", "debug, info, warning or error"),
    Variable("AGENTHUB_LOG_STREAM", "stderr", "stderr or stdout"),
    Variable("AGENTHUB_RESULT_CACHE", "on", "off: every search is computed, for measurements"),
    Variable("AGENTHUB_WARMING", "on", "off: nothing is opened before it is asked for, for measurements"),
    Variable("AGENTHUB_MAINTENANCE", "on", "off: this process merges and erases nothing behind requests; run `kb maintain` on a schedule"),
    Variable(
        "AGENTHUB_JOBS",
        "on",
        "off: this server process works on no jobs; a worker (python -m agenthub.cli worker) or a scheduler that calls /api/jobs/run does",
    ),
    Variable("AGENTHUB_JOB_LEASE_SECONDS", "30", "How long a runner that died keeps others from its job"),
    Variable("AGENTHUB_RATE_LIMITS", "on", "off: nothing is throttled, for measurements"),
    Variable("AGENTHUB_RATE_LIMIT_KEY", "60000", "Requests a minute of one API key, on all replicas together where the cache is shared"),
    Variable("AGENTHUB_RATE_LIMIT_USER", "60000", "Requests a minute of one user's sessions"),
    Variable("AGENTHUB_RATE_LIMIT_ORGANIZATION", "240000", "Requests a minute of one organization"),
    Variable("AGENTHUB_RATE_LIMIT_ADDRESS", "120000", "Requests a minute from one network address (IPv6: /64)"),
    Variable("PROMETHEUS_MULTIPROC_DIR", "", "A folder in which processes share metrics; config/gunicorn.py makes one"),
    Variable("K_SERVICE", "", "Set by Cloud Run; refuses SQLite there"),
    Variable("AGENTHUB_TOKEN", "", "For `ingest` on the command line only: an API key or a session token of the deployment", True),
    Variable("AGENTHUB_FAILPOINTS", "", "For crash tests only: name=kill@N or name=error@N"),
)
"""In the order of `config/example.env`."""
