"""Any OpenAI-compatible endpoint for chat completions, through OpenAI's own client, always streamed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import httpx2
import openai

from agenthub.core.errors import InvalidInput, ProviderFailure, RateLimited
from agenthub.core.observe import Observer
from agenthub.endpoints.bounded import Breaker
from agenthub.endpoints.openai_client import asked_pause, may_pass, open_client, pause_seconds
from agenthub.llm.configuration import MAX_ANSWER_CHARACTERS, MAX_TOKENS, LlmSettings
from agenthub.llm.contract import Ending, Message
from agenthub.llm.writing import Cancelled, Writing

_REFUSED_OPTIONS: Final = frozenset({400, 422})
_LONGEST_PAUSE_SECONDS: Final = 2.0
"""Whoever asks for a longer pause is told to the caller: a person waits."""


class _Passing(Exception):
    """A failure after which the same request may succeed."""

    def __init__(self, message: str, wait_seconds: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.wait_seconds = wait_seconds


class RemoteModel:
    """See `LanguageModel`. The key is sent to the endpoint only, and no answer of it is repeated in errors or logs."""

    def __init__(self, settings: LlmSettings, observer: Observer, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.models = settings.models
        self._settings = settings
        self._observer = observer
        self._sleep = sleep
        self._lock = threading.Lock()
        self._client: openai.OpenAI | None = None
        self._usage = True  # whether the endpoint takes the option that asks for token counts
        self._slots = threading.BoundedSemaphore(settings.concurrent)
        self._breaker = Breaker("the language model's endpoint", settings.pause_failures, settings.pause_seconds)

    def begin(
        self, messages: Sequence[Message], *, model: str | None = None, max_tokens: int | None = None, temperature: float | None = None
    ) -> Writing:
        """See `LanguageModel.begin`."""
        chosen = model or self.models[0]
        if chosen not in self.models:
            raise InvalidInput(f"this server asks only: {', '.join(self.models)}", field="model")
        self._breaker.check()
        if not self._slots.acquire(timeout=1):
            raise RateLimited(f"{self._settings.concurrent} answers are being written by this process", retry_after_seconds=2)
        asked: dict[str, Any] = {
            "model": chosen,
            "messages": [{"role": message.role, "content": _sendable(message.content)} for message in messages],
            "max_tokens": min(max_tokens or self._settings.max_tokens, MAX_TOKENS),
            "temperature": openai.omit if temperature is None else temperature,
        }
        writing = Writing(self._settings.whole_seconds + self._settings.wait_seconds)
        try:
            writing.start(lambda: self._written(writing, asked), self._slots.release)
        except BaseException:
            self._slots.release()
            raise
        return writing

    def close(self) -> None:
        """See `LanguageModel.close`."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    # --- in the thread of the writing ---

    def _written(self, writing: Writing, asked: dict[str, Any]) -> Ending:
        """Put the text's pieces, and return its ending. Raises: ProviderFailure; Cancelled."""
        started = time.monotonic()
        try:
            ending = self._repeated(writing, asked, started + self._settings.whole_seconds)
        except ProviderFailure:
            self._breaker.note(succeeded=False)
            self._observer.count("llm_calls", result="failed")
            raise
        except Cancelled:
            self._observer.count("llm_calls", result="cancelled")
            raise
        self._breaker.note(succeeded=True)
        self._observer.count("llm_calls", result="ok")
        self._observer.time("llm", time.monotonic() - started, phase="whole")
        for direction, count in (("prompt", ending.prompt_tokens), ("completion", ending.completion_tokens)):
            self._observer.count("llm_tokens", count or 0, direction=direction)
        return ending

    def _repeated(self, writing: Writing, asked: dict[str, Any], end: float) -> Ending:
        for attempt in range(1, self._settings.attempts + 1):
            try:
                return self._attempt(writing, asked)
            except _Passing as failure:
                pause = pause_seconds(attempt, failure.wait_seconds)
                late = time.monotonic() + pause + self._settings.wait_seconds > end
                if attempt == self._settings.attempts or late or pause > _LONGEST_PAUSE_SECONDS or writing.begun:
                    raise ProviderFailure(failure.message, retry_after_seconds=pause) from failure
                self._sleep(pause)
                writing.check()
        raise ProviderFailure("the language model's endpoint was not asked")

    def _attempt(self, writing: Writing, asked: dict[str, Any]) -> Ending:
        started = time.monotonic()
        try:
            stream = self._opened_stream(asked)
            try:
                writing.attach(stream.response)
                return self._read(writing, stream, str(asked["model"]), started)
            finally:
                stream.close()
        except openai.APIStatusError as error:
            raise self._refusal(error) from error
        except openai.APITimeoutError as error:
            writing.check()
            raise _Passing("the language model's endpoint did not answer in time") from error
        except openai.APIConnectionError as error:
            writing.check()
            raise _Passing(f"the language model's endpoint can't be reached ({type(error.__cause__ or error).__name__})") from error
        except httpx2.TimeoutException as error:
            writing.check()
            raise ProviderFailure("the language model's answer stopped half-way") from error
        except (openai.OpenAIError, httpx2.HTTPError, httpx2.StreamError, ValueError) as error:
            writing.check()
            raise ProviderFailure(f"the language model's answer broke off or is nonsense ({type(error).__name__})") from error

    def _opened_stream(self, asked: dict[str, Any]) -> openai.Stream[Any]:
        create: Callable[..., openai.Stream[Any]] = self._opened().chat.completions.create
        if not self._usage:
            return create(**asked, stream=True)
        try:
            return create(**asked, stream=True, stream_options={"include_usage": True})
        except openai.APIStatusError as error:
            if error.status_code not in _REFUSED_OPTIONS:
                raise
            stream = create(**asked, stream=True)
            self._usage = False
            return stream

    def _read(self, writing: Writing, stream: openai.Stream[Any], model: str, started: float) -> Ending:
        finish, length = "", 0
        prompt: int | None = None
        completion: int | None = None
        for event in stream:
            writing.check()
            text, reason = _delta(event)
            if text:
                if not length:
                    self._observer.time("llm", time.monotonic() - started, phase="first")
                length += len(text)
                if length > MAX_ANSWER_CHARACTERS:
                    raise ProviderFailure("the language model's answer is endless")
                writing.put(text)
            finish = reason or finish
            usage = getattr(event, "usage", None)
            if usage is not None:
                prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
        writing.check()
        if not finish:
            raise ProviderFailure("the language model's answer broke off")
        return Ending(model, finish, prompt, completion)

    def _refusal(self, error: openai.APIStatusError) -> Exception:
        """Without the answer's body, which may repeat the key or the text."""
        message = f"the language model's endpoint answered HTTP {error.status_code}"
        if may_pass(error.status_code):
            return _Passing(message, asked_pause(error.response.headers))
        return ProviderFailure(message)

    def _opened(self) -> openai.OpenAI:
        one = self._settings
        with self._lock:
            if self._client is None:
                self._client = open_client(
                    one.base_url, one.api_key, wait_seconds=one.wait_seconds, whole_seconds=one.whole_seconds, max_bytes=one.max_bytes
                )
            return self._client


def _delta(event: Any) -> tuple[str, str]:
    """The text and the reason to finish in one event; the client checks nothing of what it was sent.

    Raises: ProviderFailure when it is no part of a chat completion.
    """
    choices = getattr(event, "choices", None)
    if not isinstance(choices, list):
        raise ProviderFailure("the language model's answer is no chat completion")
    if not choices:
        return "", ""
    delta = getattr(choices[0], "delta", None)
    text, reason = getattr(delta, "content", None), getattr(choices[0], "finish_reason", None)
    if not isinstance(text, str | None) or not isinstance(reason, str | None):
        raise ProviderFailure("the language model's answer is no chat completion")
    return _storable(text or ""), (reason or "")[:40]


def _count(usage: Any, name: str) -> int | None:
    value = getattr(usage, name, None)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40 else None


def _sendable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _storable(text: str) -> str:
    return text.replace("\x00", "").encode("utf-8", "replace").decode()
