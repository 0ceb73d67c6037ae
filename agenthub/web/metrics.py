"""Measurements for Prometheus, from one process or, with PROMETHEUS_MULTIPROC_DIR, from all that share that folder."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

from agenthub.repositories.knowledge.job_queue import Standing

_FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SLOW: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True, slots=True)
class Known:
    """A measurement an engine may report: its help text, labels, and for durations its buckets in seconds."""

    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = _FAST


KNOWN: Final[Mapping[str, Known]] = {
    "http_requests_total": Known("Requests answered", ("route", "method", "status")),
    "http_request_duration_seconds": Known("Time to answer a request, by route", ("route",), _SLOW),
    "vector_search_seconds": Known("Time of a search, by phase", ("phase",)),
    "embedding_seconds": Known("Time to embed a batch of texts", ("model",), _SLOW),
    "embedding_cache_total": Known("Texts looked up in the embedding cache: hit or miss", ("result",)),
    "embedding_texts_total": Known("Texts embedded", ("model",)),
    "cache_total": Known("Look-ups in the cache by kind of entry: hit or miss", ("kind", "result")),
    "cache_errors_total": Known("What the cache did not do: failed, down (not asked) or forged (not ours)", ("kind", "reason")),
    "llm_calls_total": Known("Answers asked of the language model: ok, failed or cancelled", ("result",)),
    "llm_tokens_total": Known("Tokens of the language model: prompt or completion", ("direction",)),
    "llm_seconds": Known("Time of a language model's answer: until its first piece, and whole", ("phase",), _SLOW),
    "rag_answers_total": Known("Answers to questions: generated, extractive or none", ("kind",)),
    "rag_seconds": Known("Time to answer a question, by phase", ("phase",), _SLOW),
    "cache_bytes_total": Known("Bytes of cache entries by kind: read or written", ("kind", "direction")),
    "cache_seconds": Known("Time of a cache operation by kind of entry", ("kind", "operation")),
    "warehouse_rows_total": Known("Rows put into the warehouse", ()),
    "warehouse_failures_total": Known("Turns of the exporter that failed", ()),
    "warehouse_batch_seconds": Known("Time to put a batch into the warehouse and to set the checkpoint", (), _SLOW),
    "job_slice_seconds": Known("Time a runner worked on a job before it looked whose turn it was", ("kind",), _SLOW),
    "job_commit_seconds": Known("Time to commit a group of documents", (), _SLOW),
    "kb_commit_total": Known("Commits of knowledge bases: committed, rebased, conflict or unknown", ("result",)),
    "kb_reembedded_chunks_total": Known("Chunks brought to another model: embedded, or reused", ("result",)),
    "kb_reembeddings_total": Known("Switches of knowledge bases to another model", ()),
    "kb_commit_seconds": Known("Time of a knowledge base's commit, by phase", ("phase",), _SLOW),
}


class Metrics:
    """An `Observer` that Prometheus can read. Reporting never fails a request: odd labels are mended, not raised."""

    def __init__(self, multiprocess_folder: str | None = None) -> None:
        self._registry = CollectorRegistry()
        self._folder = multiprocess_folder
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        self._labels: dict[str, tuple[str, ...]] = {name: known.labels for name, known in KNOWN.items()}
        self._counting: dict[tuple[Any, ...], Counter] = {}
        self._timing: dict[tuple[Any, ...], Histogram] = {}
        self._lock = threading.Lock()
        self._in_progress = Gauge(
            "agenthub_http_requests_in_progress", "Requests being answered now", registry=self._registry, multiprocess_mode="livesum"
        )
        for name, known in KNOWN.items():
            if name.endswith("_total"):
                self._counter(name, known.labels)
            else:
                self._histogram(name, known.labels)

    def count(self, name: str, amount: float = 1.0, /, **labels: str) -> None:
        """Add to a counter; `embedding_cache` and `embedding_cache_total` name the same one."""
        key = (name, *labels.items())
        child = self._counting.get(key)
        if child is None:  # finding it by its labels costs more than counting
            total = _named(name, "_total")
            counter, given = self._counter(total, tuple(labels)), self._mended(total, labels)
            child = self._counting[key] = counter.labels(**given) if given else counter
        child.inc(amount)

    def time(self, name: str, seconds: float, /, **labels: str) -> None:
        """Note a duration; `vector_search` and `vector_search_seconds` name the same histogram."""
        key = (name, *labels.items())
        child = self._timing.get(key)
        if child is None:
            duration = _named(name, "_seconds")
            histogram, given = self._histogram(duration, tuple(labels)), self._mended(duration, labels)
            child = self._timing[key] = histogram.labels(**given) if given else histogram
        child.observe(seconds)

    def request_began(self) -> None:
        """One more request is being answered."""
        self._in_progress.inc()

    def request_ended(self, route: str | None, method: str, status: int, seconds: float) -> None:
        """A request was answered. `route` is its template; None for an address that doesn't exist."""
        template = route or "unmatched"
        self.count("http_requests_total", route=template, method=method if method in _METHODS else "other", status=str(status))
        self.time("http_request_duration_seconds", seconds, route=template)

    def request_left(self) -> None:
        """The request is over, however it ended."""
        self._in_progress.dec()

    def describe(self, *, version: str, storage: str, cache: str, vector: str, embedding: str) -> None:
        """Say once what this process is and which backends it uses."""
        facts = {"version": version, "storage": storage, "cache": cache, "vector": vector, "embedding": embedding}
        info = Gauge("agenthub_info", "What runs here", tuple(facts), registry=self._registry, multiprocess_mode="livemax")
        info.labels(**facts).set(1)
        backend = Gauge(
            "agenthub_storage_backend", "The storage backend in use", ("backend",), registry=self._registry, multiprocess_mode="livemax"
        )
        backend.labels(backend=storage).set(1)

    def exposition(self) -> bytes:
        """All measurements in Prometheus' text format."""
        registry = self._registry
        if self._folder is not None:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, path=self._folder)  # type: ignore[no-untyped-call]
        return generate_latest(_WithHitRatio(registry))

    def _counter(self, name: str, labels: tuple[str, ...]) -> Counter:
        with self._lock:
            if name not in self._counters:
                names = self._labels.setdefault(name, labels)
                self._counters[name] = Counter(f"agenthub_{name}", _help(name), names, registry=self._registry)
            return self._counters[name]

    def _histogram(self, name: str, labels: tuple[str, ...]) -> Histogram:
        with self._lock:
            if name not in self._histograms:
                names = self._labels.setdefault(name, labels)
                buckets = KNOWN[name].buckets if name in KNOWN else _FAST
                self._histograms[name] = Histogram(f"agenthub_{name}", _help(name), names, registry=self._registry, buckets=buckets)
            return self._histograms[name]

    def _mended(self, name: str, labels: Mapping[str, str]) -> dict[str, str]:
        return {label: str(labels.get(label, "")) for label in self._labels[name]}


class _WithHitRatio(CollectorRegistry):
    """What another registry collects, and the hit ratio of all processes together: a ratio can't be added up by whoever reads it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._inner = registry

    def collect(self) -> Iterator[Metric]:
        found = list(self._inner.collect())
        yield from found
        counted: dict[str, dict[str, float]] = {}
        for sample in (sample for family in found for sample in family.samples if sample.name == "agenthub_cache_total"):
            counted.setdefault(sample.labels["kind"], {})[sample.labels["result"]] = sample.value
        ratio = GaugeMetricFamily("agenthub_cache_hit_ratio", "Hits among look-ups in the cache since the start", labels=["kind"])
        for kind, results in sorted(counted.items()):
            asked = sum(results.values())
            if asked:
                ratio.add_metric([kind], results.get("hit", 0.0) / asked)
        yield ratio


def _named(name: str, suffix: str) -> str:
    name = name.removeprefix("agenthub_")
    return name if name.endswith(suffix) else name + suffix


def _help(name: str) -> str:
    return KNOWN[name].help if name in KNOWN else name.replace("_", " ")


def job_exposition(standing: Standing) -> bytes:
    """How jobs stand, in Prometheus' text format: asked for when it is wanted, and the same for all processes."""
    lines = ["# HELP agenthub_jobs Jobs by status", "# TYPE agenthub_jobs gauge"]
    lines += [f'agenthub_jobs{{status="{status}"}} {count}' for status, count in standing.counts.items()]
    lines += ["# HELP agenthub_jobs_oldest_seconds How long the oldest open job has been open", "# TYPE agenthub_jobs_oldest_seconds gauge"]
    return "\n".join([*lines, f"agenthub_jobs_oldest_seconds {standing.oldest_seconds:.3f}", ""]).encode()


def warehouse_exposition(*, lag_seconds: float, behind_rows: int, failing_seconds: float) -> bytes:
    """How far the warehouse is behind, in the same format: the same for all processes."""
    figures = (
        ("lag_seconds", "Age of the oldest event that is not in the warehouse", f"{lag_seconds:.3f}"),
        ("behind_rows", "Events that are not in the warehouse", str(behind_rows)),
        ("failing_seconds", "How long every try to export has failed; 0 when the last one worked", f"{failing_seconds:.3f}"),
    )
    lines = [
        f"# HELP agenthub_warehouse_{name} {text}\n# TYPE agenthub_warehouse_{name} gauge\nagenthub_warehouse_{name} {value}"
        for name, text, value in figures
    ]
    return "\n".join([*lines, ""]).encode()
