"""What the import contracts of pyproject.toml can't say."""

from __future__ import annotations

import ast
import sys

from tests.architecture.source import imports_of, product, sources

# Each with its reason: a row before its tenant is known, or a table that belongs to no tenant.
EVERY_TENANT_USERS = {
    "agenthub/storage/contract.py": "re-exports it",
    "agenthub/storage/sql/backend.py": "leaves out the predicate",
    "agenthub/cache/limits.py": "an address belongs to no tenant",
    "agenthub/cache/policy.py": "says which entries belong to no tenant",
    "agenthub/cache/keys.py": "keys of what belongs to no tenant, such as an embedding",
    "agenthub/repositories/operations.py": "expiry of old operations",
    "agenthub/repositories/platform/users.py": "login by e-mail address",
    "agenthub/repositories/platform/sessions.py": "a token's hash names its tenant",
    "agenthub/repositories/platform/organizations.py": "organizations are the tenants",
    "agenthub/repositories/platform/deployment_secrets.py": "secrets of the deployment itself",
    "agenthub/repositories/platform/login_throttle.py": "attempts belong to an address",
    "agenthub/cli_knowledge.py": "an operator looks after every knowledge base",
    "agenthub/cli_upkeep.py": "as cli_knowledge",
    "agenthub/cli_bundles.py": "as cli_knowledge",
    "agenthub/storage/gate.py": "the gate is one for all",
    "agenthub/storage/moving/scanning.py": "every row moves",
    "agenthub/storage/moving/putting.py": "as scanning",
    "agenthub/storage/moving/filling.py": "as scanning",
    "agenthub/storage/moving/copying.py": "as scanning",
    "agenthub/storage/moving/switching.py": "as scanning",
    "agenthub/cli_storage.py": "as scanning",
    "agenthub/storage/warehouse/feed.py": "the feed is one for all",
    "agenthub/storage/warehouse/exporting.py": "events of every tenant flow to the warehouse",
    "agenthub/repositories/knowledge/backup_pins.py": "a backup is of every tenant",
    "agenthub/repositories/knowledge/restored.py": "as backup_pins",
    "agenthub/repositories/knowledge/collecting.py": "files name their knowledge base, not its tenant",
    "agenthub/repositories/knowledge/holding.py": "as collecting",
    "agenthub/repositories/knowledge/leases.py": "as collecting",
    "agenthub/repositories/knowledge/job_queue.py": "a runner works for every organization in turn",
    "agenthub/repositories/knowledge/upkeep.py": "as collecting",
    "agenthub/repositories/knowledge/heat.py": "a process opens the busiest knowledge bases, whoever they belong to",
}
# A cache that fails is a miss, whatever its client raises: pymemcache's races end in errors of many kinds. A worker loop goes on.
GOING_ON = {
    "agenthub/cache/fleet.py",
    "agenthub/cache/server.py",
    "agenthub/repositories/knowledge/upkeep.py",
    "agenthub/repositories/knowledge/warming_thread.py",
    "agenthub/jobs/embedding.py",
    "agenthub/jobs/runner.py",
    "agenthub/jobs/beside.py",
    "agenthub/jobs/thread.py",
    "agenthub/storage/warehouse/thread.py",
    "agenthub/storage/bigquery/queue.py",  # raised in the thread of each caller whose commit was in the batch
}


def test_core_needs_the_standard_library_and_orjson_only() -> None:
    allowed = sys.stdlib_module_names | {"orjson"}
    for source in sources("agenthub/core"):
        others = {name for _, name in imports_of(source.tree) if name.split(".")[0] not in allowed}
        assert {name for name in others if not name.startswith("agenthub.core.")} == set(), source.path


def test_in_services_flask_stands_beside_a_blueprint_only() -> None:
    for source in sources("agenthub/services"):
        names = {name for _, name in imports_of(source.tree) if name.split(".")[0] in {"flask", "werkzeug"}}
        assert not names or "flask.Blueprint" in names, f"{source.path} imports {names}: HTTP belongs into routes"


def test_who_reads_across_tenants_is_listed_here() -> None:
    users = {source.path for source in product() for _, name in imports_of(source.tree) if name.endswith(".EVERY_TENANT")}
    assert users == set(EVERY_TENANT_USERS)


def test_no_assert_checks_input() -> None:
    """`python -O` drops them: in the product an assertion tells mypy what a value is not, and refuses nothing."""
    checking = [
        source.at(node)
        for source in product()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Assert) and not _narrows(node.test)
    ]
    assert checking == []


def _narrows(test: ast.expr) -> bool:
    return ast.unparse(test).endswith(" is not None") or ast.unparse(test).startswith("isinstance(")


def test_broad_handlers_raise_again() -> None:
    """`except Exception` ends nowhere but where it is listed: by Flask's registration web/errors.py, and where a failure is a miss."""
    going_on = {
        source.path
        for source in product()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"})
        and not isinstance(node.body[-1], ast.Raise)
    }
    assert going_on == GOING_ON
