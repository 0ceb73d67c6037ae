"""Which role may do what."""

from __future__ import annotations

import re

import pytest

from agenthub.repositories.platform.roles import PERMISSIONS, ROLE_PERMISSIONS, ROLES, Role, permissions_of


def test_every_role_holds_known_permissions_only() -> None:
    assert set(ROLE_PERMISSIONS) == set(ROLES)
    for held in ROLE_PERMISSIONS.values():
        assert held <= set(PERMISSIONS)


def test_permissions_are_resource_and_action() -> None:
    assert all(re.fullmatch(r"[a-z-]+:[a-z]+", name) for name in PERMISSIONS)


def test_only_owners_write_users_and_organizations() -> None:
    for permission in ("users:write", "organizations:write"):
        assert [role for role in ROLES if permission in ROLE_PERMISSIONS[role]] == ["owner"]


@pytest.mark.parametrize("role", ROLES)
def test_only_owners_of_the_operator_create_organizations(role: Role) -> None:
    assert "organizations:create" not in permissions_of(role, in_operator_organization=False)
    assert ("organizations:create" in permissions_of(role, in_operator_organization=True)) == (role == "owner")


@pytest.mark.parametrize("role", ROLES)
def test_only_those_who_run_the_deployment_operate_its_cache(role: Role) -> None:
    assert "cache:operate" not in permissions_of(role, in_operator_organization=False)
    assert ("cache:operate" in permissions_of(role, in_operator_organization=True)) == (role in ("owner", "admin", "devops"))


def test_a_viewer_writes_nothing() -> None:
    assert not [name for name in ROLE_PERMISSIONS["viewer"] if name.endswith((":write", ":create", ":manage"))]
