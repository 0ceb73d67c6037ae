"""Builds the application: settings, resources, web layer, services."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

import structlog
from flask import Flask

from agenthub import __version__
from agenthub.core import failpoints
from agenthub.core.errors import AgentHubError, InvalidInput, SettingsError
from agenthub.jobs.thread import JobThread
from agenthub.registry import Service, load, needs_of, services_for
from agenthub.repositories.platform.founding import ensure_first_owner
from agenthub.resources import Resources, open_resources
from agenthub.settings import Settings
from agenthub.web.access import EXTENSION, JOBS
from agenthub.web.errors import install_errors
from agenthub.web.guard import install_guard
from agenthub.web.logs import configure_logs
from agenthub.web.metrics import Metrics
from agenthub.web.pages import pages
from agenthub.web.probes import METRICS, READINESS, probes
from agenthub.web.readiness import readiness_of
from agenthub.web.requests import install_requests
from agenthub.web.running import RUNNING, Running, running

UPLOADS: Final = "knowledge.document-processing"
"""Processes of this service work on jobs: others, such as those that only search, are not burdened with it."""
_log = structlog.get_logger("agenthub")


def create_app(settings: Settings, resources: Resources | None = None) -> Flask:
    """The application that serves the chosen services. `resources` lets a test bring its own.

    Raises: SettingsError, StorageUnavailable when it can't start; UndeclaredView when a route doesn't say whom it admits.
    """
    failpoints.arm(settings.failpoints)
    services = services_for(settings.services)
    app = Flask("agenthub", static_folder=None, template_folder="web/templates")
    app.config.update(
        MAX_CONTENT_LENGTH=settings.web.max_body_bytes,
        MAX_BUNDLE_BYTES=settings.web.max_bundle_bytes,
        PROVIDE_AUTOMATIC_OPTIONS=False,
        PROPAGATE_EXCEPTIONS=False,
        TRAP_HTTP_EXCEPTIONS=False,
    )
    app.url_map.strict_slashes = app.url_map.merge_slashes = False  # never a redirect: every answer has the contract's shape
    metrics = Metrics(settings.metrics_folder)
    opened = resources or open_resources(settings, app, metrics, needs_of(services))
    install_requests(app, settings.web, metrics)
    install_errors(app)
    _serve(app, services)
    default_owner = "platform.authentication" in {service.name for service in services} and _has_default_owner(opened)
    _describe(app, opened, metrics, running(settings, services, default_owner=default_owner))
    install_guard(app)
    return app


def _serve(app: Flask, services: tuple[Service, ...]) -> None:
    app.register_blueprint(probes)
    app.register_blueprint(pages)
    for service in services:
        for prefix, blueprint in load(service):
            app.register_blueprint(blueprint, url_prefix=prefix)


def _has_default_owner(resources: Resources) -> bool:
    """Make the first owner if there is none yet; says whether the documented default password opens the account.

    Raises: SettingsError when the owner given is not acceptable, or the default password is in use where it may not be.
    """
    accounts = resources.settings.accounts
    try:
        owner = ensure_first_owner(resources.storage, accounts.owner_email, accounts.owner_password, accounts.default_owner_allowed)
    except InvalidInput as error:
        variable = "AGENTHUB_OWNER_EMAIL" if error.field == "email" else "AGENTHUB_OWNER_PASSWORD"
        raise SettingsError([f"{variable}: {error.message}"]) from error
    if owner.outcome == "refused":
        raise SettingsError(
            [f"{owner.email} still has the default password, which is never accepted here: set AGENTHUB_OWNER_PASSWORD to replace it"]
        )
    if owner.outcome == "absent":
        _log.warning(
            "there is no owner yet", remedy="set AGENTHUB_OWNER_EMAIL and AGENTHUB_OWNER_PASSWORD, or run: python -m agenthub.cli owner"
        )
    elif owner.default_password:
        _log.warning("the default owner is in use: change its password before others can reach this", owner=owner.email)
    elif owner.outcome != "exists":
        _log.info("first owner", outcome=owner.outcome, owner=owner.email)
    return owner.default_password


def _describe(app: Flask, resources: Resources, metrics: Metrics, described: Running) -> None:
    """Say what runs here: to the views that ask, to Prometheus, and in one line of the log."""
    app.extensions[EXTENSION] = resources
    takes_uploads = UPLOADS in {service.name for service in described.services}
    app.extensions[JOBS] = JobThread(resources, enabled=resources.settings.jobs.enabled and takes_uploads)
    app.extensions[METRICS] = metrics
    app.extensions[READINESS] = readiness_of(resources)
    app.extensions[RUNNING] = described
    backends = asdict(described.backends)
    metrics.describe(version=__version__, **backends)
    names = [service.name for service in described.services]
    addresses = {"database": resources.settings.storage.describe()}
    if backends["vector"] == "milvus" and resources.settings.milvus is not None:
        addresses["vectors"] = resources.settings.milvus.url
    _log.info("starting", version=__version__, services=names, **backends, **addresses)


def start(environment: Mapping[str, str], *, exit_status: int = 1) -> Flask:
    """The application of a real process: logs configured, and a start that can't be is one clear message and this exit status."""
    try:
        settings = Settings.from_env(environment)
        configure_logs(settings.log)
        return create_app(settings)
    except AgentHubError as error:
        sys.stderr.write(f"{error.message}\n")
        sys.exit(exit_status)
