"""How time, memory and disk of a vector engine grow with the number of chunks: what docs/vector-engines.md quotes.

    python -m benchmarks.growth                                    # 10,000 and 100,000 chunks on the volume
    python -m benchmarks.growth --counts 1000000                   # about ten quiet minutes, 6 GB of memory, 4 GB of disk
    python -m benchmarks.growth --engine milvus                    # Milvus Lite in the process that asks
    python -m benchmarks.growth --engine milvus --url http://…     # a Milvus server (VECTOR_STORE_TOKEN for its log-in)

Chunks are those of `benchmarks.peers`: 384 dimensions, 500 characters, three metadata fields, in segments of 100,000. One process
writes, a fresh one opens and asks; its memory is what it has more than before it opened: its own, and files mapped, which all
processes of a machine share.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.growth.steps import ask, build

_COLUMNS = (
    ("chunks", "chunks", "{:,.0f}"),
    ("write", "written_per_second", "{:,.0f}/s"),
    ("disk", "disk_bytes_per_chunk", "{:,.0f} B"),
    ("of it on the volume", "volume_bytes_per_chunk", "{:,.0f} B"),
    ("open", "open_seconds", "{:.2f} s"),
    ("own memory", "anonymous_bytes_per_chunk", "{:,.0f} B"),
    ("mapped", "mapped_bytes_per_chunk", "{:,.0f} B"),
    ("semantic", "semantic_ms", "{:.2f} ms"),
    ("filter of 10 %", "filtered_ms", "{:.2f} ms"),
    ("filter of 0.4 %", "narrow_ms", "{:.2f} ms"),
    ("keyword", "keyword_ms", "{:.2f} ms"),
    ("hybrid", "hybrid_ms", "{:.2f} ms"),
    ("recall@10", "recall", "{:.3f}"),
    ("filtered", "recall_filtered", "{:.3f}"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line a count."""
    parser = argparse.ArgumentParser(prog="benchmarks.growth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--engine", choices=["volume", "milvus"], default="volume")
    parser.add_argument("--url", help="a Milvus server; Milvus Lite if left out")
    parser.add_argument("--step", choices=["build", "ask"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    url = None if chosen.engine == "volume" else chosen.url or f"{chosen.folder}/vectors.db"
    if chosen.step:
        step = build if chosen.step == "build" else ask
        print(json.dumps(step(chosen.folder, url, chosen.counts[0])))
        return 0
    print(" | ".join(title for title, _, _ in _COLUMNS))
    for count in chosen.counts:
        with tempfile.TemporaryDirectory(prefix="agenthub-growth-") as folder:
            figures = {"chunks": count} | _child("build", chosen, count, folder) | _child("ask", chosen, count, folder)
        print(" | ".join(form.format(figures[name]) for _, name, form in _COLUMNS), flush=True)
    return 0


def _child(step: str, chosen: argparse.Namespace, count: int, folder: str) -> dict[str, Any]:
    """The figures of one step, made by a process of its own."""
    command = [sys.executable, "-m", "benchmarks.growth", "--step", step, "--folder", folder, "--counts", str(count)]
    command += ["--engine", chosen.engine] + (["--url", chosen.url] if chosen.url else [])
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{step} of {count} failed: {ended.stderr[-3000:]}")
    figures: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return figures


if __name__ == "__main__":
    sys.exit(main())
