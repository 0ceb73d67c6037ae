"""Opens the language model that the settings name."""

from __future__ import annotations

from agenthub.core.observe import Observer
from agenthub.llm.configuration import LlmSettings
from agenthub.llm.contract import LanguageModel
from agenthub.llm.remote import RemoteModel


def open_model(settings: LlmSettings, observer: Observer) -> LanguageModel:
    """The model; nothing is connected yet."""
    return RemoteModel(settings, observer)
