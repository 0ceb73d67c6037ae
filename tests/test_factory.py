"""Starting: the first owner, and starts that can't be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agenthub.core.errors import SettingsError
from agenthub.factory import create_app, start
from agenthub.settings import Settings

LOGIN = "/api/auth/login"
DEFAULT = {"email": "owner@agenthub.com", "password": "password"}


def app_with(**environment: str) -> Any:
    return create_app(Settings.from_env({"AGENTHUB_SERVICES": "platform.*", **environment}))


def test_a_fresh_start_serves_the_documented_commands_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    client = app_with(AGENTHUB_ACCEPT_EPHEMERAL_SQLITE="on").test_client()
    body = b'{"email": "owner@agenthub.com", "password": "password"}'
    answer = client.post(LOGIN, data=body, content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 200
    token = answer.json["session_token"]
    again = app_with(AGENTHUB_ACCEPT_EPHEMERAL_SQLITE="on").test_client()
    me = again.get("/api/auth/me", headers={"Authorization": f"Bearer {token}"})
    assert (me.status_code, me.json["email"], me.json["role"]) == (200, "owner@agenthub.com", "owner")
    page = again.get("/", headers={"Accept": "text/html"}).text
    assert "owner@agenthub.com" in page and "Change the password" in page


def test_the_default_owner_is_refused_once_others_can_reach_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app_with(AGENTHUB_ACCEPT_EPHEMERAL_SQLITE="on")
    with pytest.raises(SettingsError, match="AGENTHUB_OWNER_PASSWORD"):
        app_with(AGENTHUB_ACCEPT_EPHEMERAL_SQLITE="on", AGENTHUB_HOST="0.0.0.0")
    replaced = app_with(
        AGENTHUB_ACCEPT_EPHEMERAL_SQLITE="on",
        AGENTHUB_HOST="0.0.0.0",
        AGENTHUB_OWNER_EMAIL="owner@agenthub.com",
        AGENTHUB_OWNER_PASSWORD="a-much-better-password",
    )
    assert replaced.test_client().post(LOGIN, json=DEFAULT).status_code == 401


def test_no_default_owner_beyond_the_embedded_default() -> None:
    assert app_with(DATABASE_URL="memory://").test_client().post(LOGIN, json=DEFAULT).status_code == 401


def test_an_unacceptable_owner_is_named_by_its_variable() -> None:
    with pytest.raises(SettingsError, match="AGENTHUB_OWNER_PASSWORD"):
        app_with(DATABASE_URL="memory://", AGENTHUB_OWNER_EMAIL="a@example.com", AGENTHUB_OWNER_PASSWORD="password")
    with pytest.raises(SettingsError, match="AGENTHUB_OWNER_EMAIL"):
        app_with(DATABASE_URL="memory://", AGENTHUB_OWNER_EMAIL="nonsense", AGENTHUB_OWNER_PASSWORD="a-much-better-password")


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"PORT": "x"}, "PORT"),
        ({"DATABASE_URL": "memory://", "AGENTHUB_SERVICES": "nothing"}, "'nothing' names no service"),
        ({"DATABASE_URL": "postgresql://u:canary@127.0.0.1:1/d"}, "127.0.0.1:1"),
    ],
)
def test_a_start_that_cannot_be_is_one_message_and_a_status(
    environment: dict[str, str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agenthub.factory.configure_logs", lambda _: None)
    with pytest.raises(SystemExit) as caught:
        start(environment, exit_status=3)
    shown = capsys.readouterr().err
    assert caught.value.code == 3
    assert words in shown and "Traceback" not in shown and "canary" not in shown
