"""HTTP routes of organizations."""

from __future__ import annotations

from flask import Blueprint

from agenthub.core.errors import NotFound, PermissionDenied
from agenthub.core.ids import new_id
from agenthub.core.types import TenantId
from agenthub.repositories.base import Page
from agenthub.repositories.platform.founding import FoundingRepository
from agenthub.repositories.platform.organizations import Organization, OrganizationRepository
from agenthub.repositories.platform.passwords import HASHING, check_new_password
from agenthub.repositories.platform.roles import CREATE_ORGANIZATIONS
from agenthub.repositories.platform.users import new_user, normalise_email
from agenthub.services.platform.authentication.schemas import OrganizationCreate, OrganizationOut, OrganizationUpdate
from agenthub.web.access import principal, repository
from agenthub.web.declare import accepts, requires, returns, takes
from agenthub.web.schema import ListOf, PageQuery

bp = Blueprint("organizations", __name__)


@bp.post("")
@requires(CREATE_ORGANIZATIONS)
@accepts(OrganizationCreate)
@returns(OrganizationOut, status=201)
def create_organization(body: OrganizationCreate) -> Organization:
    """Create an organization with its first owner; for owners of the operator organization."""
    email = normalise_email(body.owner.email, field="owner.email")
    check_new_password(body.owner.password, email, field="owner.password")
    organizations = repository(FoundingRepository)
    now = organizations.now()
    tenant_id = TenantId(new_id())
    owner = new_user(tenant_id, email, body.owner.name, "owner", HASHING.hash(body.owner.password), now)
    organization = Organization(tenant_id, body.name, "active", None, now, now)
    return organizations.found(principal().tenant_id, organization, owner)


@bp.get("")
@requires("organizations:read")
@takes(PageQuery)
@returns(ListOf[OrganizationOut])
def list_organizations(query: PageQuery) -> Page[Organization]:
    """One's own organization; all of them for owners of the operator organization."""
    organizations = repository(OrganizationRepository)
    return organizations.page_for(principal().tenant_id, all_organizations=_is_operator(), limit=query.limit, cursor=query.cursor)


@bp.get("/<organization_id>")
@requires("organizations:read")
@returns(OrganizationOut)
def get_organization(organization_id: str) -> Organization:
    """One organization."""
    key = _reachable(organization_id)
    return repository(OrganizationRepository).get(key, key)


@bp.patch("/<organization_id>")
@requires("organizations:write")
@accepts(OrganizationUpdate)
@returns(OrganizationOut)
def update_organization(organization_id: str, body: OrganizationUpdate) -> Organization:
    """Rename an organization; owners of the operator organization also suspend and activate others."""
    key = _reachable(organization_id)
    if "status" in body.model_fields_set and not _is_operator():
        raise PermissionDenied("only the operator suspends and activates organizations")
    changes = body.model_dump(exclude_unset=True, exclude={"expected_version"})
    return repository(OrganizationRepository).change(principal().tenant_id, key, changes, expected_version=body.expected_version)


def _is_operator() -> bool:
    return CREATE_ORGANIZATIONS in principal().permissions


def _reachable(organization_id: str) -> TenantId:
    """The id, if it is the caller's own organization or the caller is the operator.

    Raises: NotFound otherwise, whether it exists or not.
    """
    if organization_id != principal().tenant_id and not _is_operator():
        raise NotFound("no organization with this id")
    return TenantId(organization_id)
