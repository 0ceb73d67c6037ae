"""Every service of the registry can be imported, starts alone, and brings no other service and no engine it does not need."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TypedDict

import pytest

from agenthub.registry import SERVICES, Service
from tests.architecture.source import ROOT, sources

NAMES = [service.name for service in SERVICES]
# What must not be imported unless a service says that it needs it.
ENGINES = {
    "knowledge": {"faiss", "agenthub.rag.engine"},
    "llm": {"agenthub.llm.remote"},
    "embedders": {"onnxruntime", "tokenizers", "openai", "agenthub.rag.embedding.local"},
}
BOOT = """
import json, os, sys
from agenthub.factory import start
app = start(os.environ)
live = app.test_client().get("/api/health/live")
routes = sorted({rule.rule for rule in app.url_map.iter_rules()})
print(json.dumps({"status": live.status_code, "routes": routes, "modules": sorted(sys.modules)}))
"""


class Booted(TypedDict):
    """What a process of one service said about itself."""

    status: int
    routes: list[str]
    modules: list[str]


@cache
def _boot(name: str) -> Booted:
    answer = subprocess.run(
        [sys.executable, "-B", "-c", BOOT],
        cwd=ROOT,
        env={
            "AGENTHUB_SERVICES": name,
            "DATABASE_URL": "memory://",
            "VECTOR_STORE_BASE_PATH": "/nonexistent",
            "AGENTHUB_LOG_LEVEL": "error",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stderr
    result: Booted = json.loads(answer.stdout.splitlines()[-1])
    return result


def _package(name: str) -> str:
    return "agenthub.services." + name.replace("-", "_")


def test_every_package_of_a_service_is_registered() -> None:
    packages = {source.module for source in sources("agenthub/services") if source.path.endswith("__init__.py")}
    assert {package for package in packages if package.count(".") == 3} == {_package(name) for name in NAMES}


@pytest.mark.parametrize("service", SERVICES, ids=NAMES)
def test_a_service_starts_alone(service: Service) -> None:
    name = service.name
    booted = _boot(name)
    assert booted["status"] == 200
    loaded = {module for module in booted["modules"] if module.startswith("agenthub.services.") and module.count(".") >= 3}
    assert {module for module in loaded if not (module + ".").startswith(_package(name) + ".")} == set()


@pytest.mark.parametrize("service", SERVICES, ids=NAMES)
def test_a_service_opens_only_what_it_needs(service: Service) -> None:
    name, needs = service.name, service.needs
    unneeded = {module for engine, modules in ENGINES.items() if engine not in needs for module in modules}
    assert unneeded & set(_boot(name)["modules"]) == set()


@pytest.mark.parametrize("service", SERVICES, ids=NAMES)
def test_a_service_answers_under_its_prefixes_only(service: Service) -> None:
    name, prefixes = service.name, service.prefixes
    shared = set(_boot("platform.system-health")["routes"]) - {"/api/health"}
    own = set(_boot(name)["routes"]) - shared
    assert own
    patterns = [prefix.replace("{id}", "<") for prefix in prefixes]
    astray = {route for route in own if not any(route.startswith(pattern.split("<")[0].rstrip("/")) for pattern in patterns)}
    assert astray == set()


def test_every_service_has_tests() -> None:
    folder = ROOT / "tests" / "services"
    domains = {name.split(".")[0] for name in NAMES}
    assert {domain for domain in domains if not any(Path(folder / domain).glob("test_*.py"))} == set()
