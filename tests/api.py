"""Drives an application over HTTP in tests, as a signed-in client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from agenthub.factory import create_app
from agenthub.settings import Settings
from tests.rag.samples import milvus_file

OWNER = {"email": "owner@example.com", "password": "correct horse battery staple"}


def make_app(folder: Path, database_url: str = "memory://", **environment: str) -> Flask:
    """An application with its volume in `folder` and a first owner."""
    settings = {
        "DATABASE_URL": database_url,
        "VECTOR_STORE_BASE_PATH": str(folder / "knowledge"),
        "AGENTHUB_OWNER_EMAIL": OWNER["email"],
        "AGENTHUB_OWNER_PASSWORD": OWNER["password"],
        "AGENTHUB_LOG_LEVEL": "warning",
    }
    return create_app(Settings.from_env(settings | environment))


def in_milvus() -> dict[str, str]:
    """What an application is told to keep chunks and vectors in this test process's Milvus Lite."""
    return {"VECTOR_STORE_URL": milvus_file(), "WEB_CONCURRENCY": "1"}


class Api:
    """A client of an application that sends its token and fails on surprises."""

    def __init__(self, app: Flask, token: str | None = None) -> None:
        self.app = app
        self.client = app.test_client()
        self.token = token

    def login(self, email: str = OWNER["email"], password: str = OWNER["password"]) -> Api:
        """The same application with a session of that user."""
        body = self.call("POST", "/api/auth/login", 200, json={"email": email, "password": password})
        return Api(self.app, body["session_token"])

    def send(self, method: str, path: str, **arguments: Any) -> TestResponse:
        """Send a request and return the response, whatever it is."""
        headers = dict(arguments.pop("headers", {}))
        if self.token:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        return self.client.open(path, method=method, headers=headers, **arguments)

    def call(self, method: str, path: str, status: int, **arguments: Any) -> Any:
        """Send a request that must answer with this status; returns the body."""
        response = self.send(method, path, **arguments)
        assert response.status_code == status, (method, path, response.status_code, response.get_data(as_text=True)[:2000])
        return response.get_json() if response.is_json else response.get_data()

    def get(self, path: str, status: int = 200, **arguments: Any) -> Any:
        return self.call("GET", path, status, **arguments)

    def post(self, path: str, json: Any = None, status: int = 200, **arguments: Any) -> Any:
        return self.call("POST", path, status, json=json, **arguments)

    def refused(self, method: str, path: str, status: int, code: str, field: str | None = None, **arguments: Any) -> Any:
        """Send a request that must be refused in the contract's shape."""
        error = self.call(method, path, status, **arguments)["error"]
        assert error["code"] == code, error
        assert error.get("field") == field, error
        assert error["request_id"]
        return error
