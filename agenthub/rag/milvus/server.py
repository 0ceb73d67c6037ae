"""The one module that speaks to Milvus: what the adapter asks of it, each call with a time limit and its errors translated.

Only what every Milvus does alike is used: rows that are inserted and deleted, counted and read by comparisons of plain columns,
and an inner product over one vector column.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.client.ts_utils import get_collection_ts

from agenthub.core.errors import VectorEngineUnavailable
from agenthub.rag.configuration import MilvusSettings
from agenthub.rag.milvus.patience import Patience
from agenthub.rag.vectors import Vectors

T = TypeVar("T")
MAX_LINE_BYTES: Final = 65_535
"""What a text column holds at most."""
MAX_HITS: Final = 16_384
"""What one search or query answers at most."""
_COLLECTION: Final = re.compile(r"agenthub_[0-9]{1,4}\Z")
_BUILD: Final = {"M": 16, "efConstruction": 200}
_LEAST_EFFORT: Final = 200
_PARTITIONS: Final = 64
_MANY_ROWS: Final = 1000
_UNREACHABLE: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})


class MilvusServer:
    """A Milvus server or cluster, or a Milvus Lite in this process. Connects when first asked; safe to share between threads."""

    def __init__(self, settings: MilvusSettings) -> None:
        self._settings = settings
        self._client: MilvusClient | None = None
        self._ready: set[int] = set()
        self._lock = threading.RLock()
        # Milvus Lite takes one writer at a time; a server orders them itself.
        self._writing = threading.Lock() if settings.lite else nullcontext()
        self._patience = Patience()

    # -- collections

    def collection(self, dimension: int) -> str:
        """The name of the collection of this dimension, made and loaded where it wasn't.

        One for all knowledge bases, which are its partition keys: a server bears few collections and any number of keys.
        """
        name = f"agenthub_{dimension}"
        if dimension not in self._ready:
            with self._lock:
                self._call(lambda client: self._prepared(client, name, dimension))
                self._ready.add(dimension)
        return name

    def collections(self) -> list[str]:
        """The names of those of ours that there are."""
        found: list[str] = self._call(lambda client: client.list_collections(timeout=self._seconds))
        return sorted(name for name in found if _COLLECTION.match(name))

    def version(self) -> str:
        """What the server says it is. Asked even while others are spared the wait."""
        return str(self._spoken(lambda client: client.get_server_version(timeout=self._seconds)))

    def _prepared(self, client: MilvusClient, name: str, dimension: int) -> None:
        if not client.has_collection(name, timeout=self._seconds):
            with self._writing:
                self._create(client, name, dimension)
        client.load_collection(name, timeout=self._seconds)

    def _create(self, client: MilvusClient, name: str, dimension: int) -> None:
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=48)
        schema.add_field("kb", DataType.VARCHAR, max_length=32, is_partition_key=True)
        schema.add_field("segment", DataType.VARCHAR, max_length=32)
        schema.add_field("row", DataType.INT64)
        schema.add_field("document", DataType.VARCHAR, max_length=32)
        schema.add_field("line", DataType.VARCHAR, max_length=MAX_LINE_BYTES)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
        indexes = client.prepare_index_params()
        indexes.add_index("vector", index_type="HNSW", metric_type="IP", params=_BUILD)
        indexes.add_index("segment", index_type="INVERTED")
        try:
            client.create_collection(
                name, schema=schema, index_params=indexes, num_partitions=_PARTITIONS, consistency_level="Strong", timeout=self._seconds
            )
        except MilvusException:
            if not client.has_collection(name, timeout=self._seconds):  # else another process was first
                raise

    # -- rows

    def insert(self, collection: str, rows: Sequence[Mapping[str, Any]]) -> int:
        """Add rows; the server has them durably when this returns. From the timestamp returned on all find them (0: it gives none).

        Raises: VectorEngineUnavailable, and then it isn't known whether they were added.
        """

        def add(client: MilvusClient) -> int:
            with self._writing:
                client.insert(collection, list(rows), timeout=self._seconds)
            # The client notes the timestamp of the last write, which its answer leaves out, under the server's address.
            address = client._get_connection().server_address  # noqa: SLF001 - there is no other way to it
            return int(get_collection_ts(collection, address, "") or 0)

        return self._call(add)

    def delete(self, collection: str, expression: str) -> None:
        """Remove the rows this is true for."""

        def remove(client: MilvusClient) -> None:
            with self._writing:
                client.delete(collection, filter=expression, timeout=self._seconds, consistency_level="Strong")

        self._call(remove)

    def settle(self, collection: str, row_count: int) -> None:
        """After many rows: have Milvus Lite put them into its files, where it finds them sooner. A server does that by itself."""
        if self._settings.lite and row_count >= _MANY_ROWS:
            with self._writing:
                self._call(lambda client: client.flush(collection, timeout=self._seconds))

    def count(self, collection: str, expression: str, since: int) -> int:
        """How many rows this is true for."""
        if self._settings.lite:  # which counts by reading all columns
            return len(self.query(collection, expression, ["row"], since))
        return int(self.query(collection, expression, ["count(*)"], since)[0]["count(*)"])

    def query(self, collection: str, expression: str, fields: Sequence[str], since: int) -> list[dict[str, Any]]:
        """These columns of the rows this is true for, in no order.

        `since` is the newest timestamp of what has to be seen; 0: all that was ever written.
        """
        options = {"timeout": self._seconds, **_consistency(since)}
        found: list[dict[str, Any]] = self._call(
            lambda client: client.query(collection, filter=expression, output_fields=list(fields), **options)
        )
        return found

    def search(self, collection: str, expression: str, queries: Vectors, limit: int, since: int) -> list[list[tuple[str, float]]]:
        """For each query the ids and inner products of its best rows among those this is true for, best first.

        There may be fewer than `limit` though more exist: the index gives up where few rows are allowed.
        """
        options = {
            "anns_field": "vector",
            "search_params": {"metric_type": "IP", "params": {"ef": max(2 * limit, _LEAST_EFFORT)}},
            "timeout": self._seconds,
            **_consistency(since),
        }
        found = self._call(lambda client: client.search(collection, data=queries.tolist(), filter=expression, limit=limit, **options))
        return [[(str(hit["id"]), float(hit["distance"])) for hit in hits] for hits in found]

    def close(self) -> None:
        """Let go of the connection; the next call makes another."""
        with self._lock:
            client, self._client = self._client, None
            self._ready.clear()
        if client is not None:
            client.close()

    # -- speaking

    @property
    def _seconds(self) -> float:
        return self._settings.timeout_seconds

    def _call(self, ask: Callable[[MilvusClient], T]) -> T:
        """Raises: VectorEngineUnavailable, at once where the server was just seen not to answer."""
        self._patience.ask()
        return self._spoken(ask)

    def _spoken(self, ask: Callable[[MilvusClient], T]) -> T:
        try:
            answer = ask(self._connected())
        except (MilvusException, grpc.RpcError, OSError) as error:
            raise self._translated(error) from error
        self._patience.answered()
        return answer

    def _translated(self, error: Exception) -> VectorEngineUnavailable:
        said = _without_noise(error)
        if not _unreachable(error):
            return VectorEngineUnavailable(f"Milvus refused: {said}", retry_after_seconds=1.0)
        if self._settings.lite:
            said = f"the file can't be opened; another process may have it, and only one can: {said}"
        return self._patience.failed(f"Milvus does not answer: {said}")

    def _connected(self) -> MilvusClient:
        """Raises: as `MilvusClient`; VectorEngineUnavailable when another thread has just tried in vain."""
        failures = self._patience.failures
        with self._lock:
            if self._client is None and self._patience.failures != failures:
                raise VectorEngineUnavailable("Milvus does not answer", retry_after_seconds=1.0)
            if self._client is None:
                settings = self._settings
                if settings.lite:
                    Path(settings.url).parent.mkdir(parents=True, exist_ok=True)
                self._client = MilvusClient(
                    settings.url, token=settings.token or "", timeout=settings.timeout_seconds, grpc_options=_CHANNEL
                )
            return self._client


_CHANNEL: Final = {"grpc.keepalive_time_ms": 330_000, "grpc.keepalive_permit_without_calls": False}
"""pymilvus pings every ten seconds, also when nothing is asked, and Milvus Lite hangs up («Too many pings»). Each call has its own end."""


def _consistency(since: int) -> dict[str, Any]:
    """What a reader has to see. A timestamp of the past costs no wait; without one the server waits for all that came before."""
    if since:
        return {"consistency_level": "Customized", "guarantee_timestamp": since}
    return {"consistency_level": "Strong"}


def _unreachable(error: Exception) -> bool:
    """Whether the server is not there, as against one that is and refuses."""
    if isinstance(error, grpc.RpcError):
        return getattr(error, "code", lambda: None)() in _UNREACHABLE
    if isinstance(error, MilvusException):
        cause = error.__cause__
        connecting = type(error).__name__ in ("MilvusUnavailableException", "ConnectionConfigException") or "connect" in str(error).lower()
        return connecting or (cause is not None and cause is not error and isinstance(cause, Exception) and _unreachable(cause))
    return True


def _without_noise(error: Exception) -> str:
    """The first line of what it says, without what may be long."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}"
