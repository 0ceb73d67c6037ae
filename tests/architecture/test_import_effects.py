"""Importing does nothing: no thread, socket, process or file for writing, and no look at the environment."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.architecture.source import ROOT, sources

WATCHER = """
import importlib, json, os, sys, threading

EVENTS = {"socket.__new__", "socket.connect", "socket.bind", "subprocess.Popen", "os.fork", "os.mkdir", "os.remove", "os.rename"}
seen, armed = [], True

def ours():
    frame = sys._getframe(2)
    while frame:
        name = frame.f_globals.get("__name__", "")
        if name.startswith("agenthub"):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back

def watch(event, arguments):
    if armed and (event in EVENTS or event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")):
        seen.append([event, str(arguments[0])[:80], str(ours())])

class Environment(type(os.environ)):
    def __getitem__(self, key):
        caller = sys._getframe(1)
        while caller.f_globals.get("__name__", "") in {"os", "collections.abc"}:
            caller = caller.f_back
        if armed and caller.f_globals.get("__name__", "").startswith("agenthub"):
            seen.append(["environment", str(key), caller.f_globals["__name__"]])
        return super().__getitem__(key)

os.environ.__class__ = Environment
sys.addaudithook(watch)
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
armed = False
print(json.dumps({"seen": seen, "threads": [thread.name for thread in threading.enumerate()]}))
"""


def _watch(modules: list[str]) -> dict[str, list[object]]:
    answer = subprocess.run(
        [sys.executable, "-B", "-c", WATCHER, json.dumps(modules)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert answer.returncode == 0, answer.stderr
    result: dict[str, list[object]] = json.loads(answer.stdout.splitlines()[-1])
    return result


def test_importing_every_module_does_nothing() -> None:
    modules = [source.module for source in sources("agenthub") if "/migrations/" not in source.path]  # Alembic runs those as scripts
    answer = _watch(modules)
    assert answer["threads"] == ["MainThread"]
    ours = [entry for entry in answer["seen"] if not str(entry).endswith("'None']")]
    assert [entry for entry in ours if not _is_ipv6_probe(entry)] == []


def _is_ipv6_probe(entry: object) -> bool:
    """Google's and Milvus' clients import an HTTP library that binds a socket to see whether there is IPv6, and closes it again."""
    text = str(entry)
    known = "agenthub.storage.bigquery." in text or "agenthub.rag.milvus.server:" in text
    return known and ("'socket.__new__'" in text or ("'socket.bind'" in text and "'::', 0" in text))


def test_the_watcher_sees_what_it_should() -> None:
    """The test above would be worth nothing if the hook were blind."""
    code = WATCHER.replace("importlib.import_module(name)", "exec(compile(name, 'x', 'exec'), {'__name__': 'agenthub.fake', 'os': os})")
    guilty = "import socket; socket.socket(); os.environ.get('PORT'); open('/dev/null', 'w')"
    answer = subprocess.run(
        [sys.executable, "-B", "-c", code, json.dumps([guilty])], capture_output=True, text=True, check=True, timeout=60
    )
    assert {entry[0] for entry in json.loads(answer.stdout)["seen"]} == {"socket.__new__", "environment", "open"}
