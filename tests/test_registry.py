"""The registry: patterns choose services, and only chosen code is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agenthub.core.errors import SettingsError
from agenthub.registry import SERVICES, load, needs_of, services_for


def test_patterns_choose_services_in_the_registrys_order() -> None:
    names = [service.name for service in services_for(["platform.authentication", "knowledge.*"])]
    assert set(names) == {service.name for service in SERVICES if service.name.startswith("knowledge.")} | {"platform.authentication"}
    assert names == [service.name for service in SERVICES if service.name in names]
    assert services_for(["*"]) == SERVICES


def test_a_pattern_that_names_nothing_is_refused_with_what_there_is() -> None:
    with pytest.raises(SettingsError) as caught:
        services_for(["knowledge.*", "knowlege.*", "nothing"])
    assert len(caught.value.problems) == 2
    assert "'knowlege.*'" in caught.value.problems[0] and "knowledge.knowledge-base" in caught.value.problems[0]


def test_names_are_unique_and_every_service_loads() -> None:
    assert len({service.name for service in SERVICES}) == len(SERVICES)
    blueprints = [blueprint.name for service in SERVICES for _, blueprint in load(service)]
    assert len(set(blueprints)) == len(blueprints)
    assert needs_of(SERVICES) == {"storage", "cache", "knowledge", "embedders", "llm"}


@pytest.mark.parametrize("name", ["platform.authentication", "platform.system-health", "platform.logging"])
def test_a_process_imports_neither_other_services_nor_engines_it_does_not_need(name: str) -> None:
    script = (
        "import sys\n"
        "from agenthub.factory import create_app\n"
        "from agenthub.settings import Settings\n"
        f"create_app(Settings.from_env({{'DATABASE_URL': 'memory://', 'AGENTHUB_SERVICES': {name!r}}}))\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"faiss", "onnxruntime", "sqlalchemy", "alembic", "pypdf", "agenthub.rag.engine", "agenthub.services.knowledge"}
    package = f"agenthub.services.{name.replace('-', '_')}"
    own = {module for module in loaded if module.startswith("agenthub.services.platform.")}
    assert own and all(module.startswith(package) for module in own)
