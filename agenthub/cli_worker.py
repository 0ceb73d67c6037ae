"""A process that works on jobs: `python -m agenthub.cli worker`. Any number may run, beside servers and beside one another."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from types import FrameType
from typing import Final

import click
from flask import Flask

from agenthub.core import failpoints
from agenthub.core.errors import StorageUnavailable
from agenthub.core.observe import Unobserved
from agenthub.core.threads import NICENESS
from agenthub.jobs.beside import Beside
from agenthub.jobs.contract import SLICE_SECONDS
from agenthub.jobs.runner import Runner
from agenthub.registry import Need
from agenthub.resources import open_resources
from agenthub.settings import Settings
from agenthub.web.logs import configure_logs

_NEEDS: Final[frozenset[Need]] = frozenset({"storage", "cache", "knowledge", "embedders"})
_PAUSE_SECONDS: Final = 0.5
_SWEEP_SECONDS: Final = 600.0
_LAST_SECONDS: Final = 7.0
"""After so long the process ends in the midst of a step that hangs, such as a provider's: platforms kill after ten seconds."""
_log = logging.getLogger("agenthub.jobs")


@click.command("worker")
@click.option("--until-idle", is_flag=True, help="End as soon as no job is open, instead of waiting for more.")
def worker_command(until_idle: bool) -> None:
    """Work on jobs until SIGTERM: then the step under way is ended or left within seconds, and the lease given back."""
    settings = Settings.from_env(os.environ)
    configure_logs(settings.log)
    failpoints.arm(settings.failpoints)
    os.nice(NICENESS)
    resources = open_resources(settings, Flask("agenthub"), Unobserved(), _NEEDS)
    stop = _stopped_by_signals()
    _log.info("worker starts")
    if resources.exporting is not None and not until_idle:
        resources.exporting.begin()
    try:
        beside = Beside(resources, stop, _PAUSE_SECONDS, lambda: None)
        _work(Runner(resources), beside, stop, until_idle=until_idle)
        beside.join(_LAST_SECONDS)
    finally:
        resources.close()
    _log.info("worker ends")


def _stopped_by_signals() -> threading.Event:
    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        if not stop.is_set():
            stop.set()
            last = threading.Timer(_LAST_SECONDS, _leave)
            last.daemon = True
            last.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    return stop


def _leave() -> None:
    """End at once: whatever is under way is as if the process had been killed, which loses nothing."""
    _log.warning("worker leaves a step that does not end")
    os._exit(0)


def _work(runner: Runner, beside: Beside, stop: threading.Event, *, until_idle: bool) -> None:
    swept_seconds = time.monotonic()
    while not stop.is_set():
        try:
            if runner.run_once(SLICE_SECONDS, stop, during=beside.slice):
                continue
            if until_idle and not runner.queue.anything_open():
                return
        except StorageUnavailable as error:
            _log.warning("no job could be taken: %s", error.message)
        if time.monotonic() - swept_seconds > _SWEEP_SECONDS:
            swept_seconds = time.monotonic()
            runner.tidy()
        stop.wait(_PAUSE_SECONDS)
