"""A process loads the code of the services it serves, and no heavier engine than they need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("faiss", "numpy", "onnxruntime", "tokenizers", "openai", "pypdf")
PROGRAM = """
import sys
from agenthub.registry import load, services_for
for service in services_for([{pattern!r}]):
    load(service)
print(*[name for name in {heavy!r} if name in sys.modules])
print(*sorted(name for name in sys.modules if name.startswith("agenthub.services.") and name.count(".") == 3))
"""


@pytest.mark.parametrize(
    ("pattern", "heavy", "services"),
    [
        ("agents.*", set(), {"agenthub.services.agents.agent_management"}),
        ("platform.logging", set(), {"agenthub.services.platform.logging"}),
        ("knowledge.knowledge-base", {"numpy"}, {"agenthub.services.knowledge.knowledge_base"}),
    ],
)
def test_only_what_is_served_is_loaded(pattern: str, heavy: set[str], services: set[str]) -> None:
    program = PROGRAM.format(pattern=pattern, heavy=HEAVY)
    printed = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    loaded, served = printed.split("\n")[:2]
    assert set(loaded.split()) <= heavy | ({"faiss"} if heavy else set())
    assert set(served.split()) == services
