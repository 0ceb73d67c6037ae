"""Which handler does which kind of job, as strings: a process imports what it runs."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Final

from agenthub.jobs.contract import Handler

HANDLERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "upload": "agenthub.jobs.uploads:UploadHandler",
        "archive": "agenthub.jobs.archives:ArchiveHandler",
        "records": "agenthub.jobs.records:RecordsHandler",
        "site": "agenthub.jobs.sites:SiteHandler",
        "reembed": "agenthub.jobs.reembedding:ReembedHandler",
    }
)
"""Kinds of jobs by name. To add one: a line here, and a handler as `jobs/contract.py` describes it."""


def handler_of(kind: str) -> type[Handler]:
    """The handler of that kind.

    Raises: KeyError when this release has none.
    """
    module, _, name = HANDLERS[kind].partition(":")
    handler: type[Handler] = getattr(import_module(module), name)
    return handler
