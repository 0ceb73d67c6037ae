"""Builds the application: settings, resources, web layer, services."""

from __future__ import annotations

from flask import Flask

from agenthub.core import failpoints
from agenthub.core.observe import Unobserved
from agenthub.registry import load, services_for
from agenthub.resources import Resources, open_resources
from agenthub.settings import Settings
from agenthub.web.access import EXTENSION
from agenthub.web.errors import install_errors
from agenthub.web.guard import install_guard
from agenthub.web.requests import install_requests


def create_app(settings: Settings, resources: Resources | None = None) -> Flask:
    """The application that serves the chosen services. `resources` lets a test pass its own.

    Raises: SettingsError, StorageUnavailable when it can't start; UndeclaredView when a route admits it doesn't know whom.
    """
    failpoints.arm(settings.failpoints)
    services = services_for(settings.services)
    app = Flask("agenthub", static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=settings.web.max_body_bytes, PROVIDE_AUTOMATIC_OPTIONS=False, PROPAGATE_EXCEPTIONS=False)
    needs = frozenset(need for service in services for need in service.needs)
    app.extensions[EXTENSION] = resources or open_resources(settings, app, Unobserved(), needs)
    install_requests(app, settings.web)
    install_errors(app)
    for service in services:
        for prefix, blueprint in load(service):
            app.register_blueprint(blueprint, url_prefix=prefix)
    install_guard(app)
    return app
