"""A question to an answer: passages of one or several knowledge bases, weighed, and then told by a model or by themselves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from agenthub.core.errors import Conflict
from agenthub.core.observe import Observer
from agenthub.llm.contract import Ending, Generation, LanguageModel, Message
from agenthub.rag.answering.calibrated import THRESHOLD
from agenthub.rag.answering.citing import Purifier, cited_numbers
from agenthub.rag.answering.evidence import Embed, Evidence, coverages, gather
from agenthub.rag.answering.extracting import Quote, extract
from agenthub.rag.answering.prompting import REFUSAL, Excerpt, prompt
from agenthub.rag.chunks import Chunk
from agenthub.rag.embedding.catalog import EmbedderCatalog
from agenthub.rag.searcher import Searcher
from agenthub.rag.segment import analyzer_of
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.repositories.knowledge.models import pinned_embedder
from agenthub.repositories.knowledge.rag_queries import AnswerKind
from agenthub.repositories.knowledge.retrieving import Passage, Retriever, Wanted, place_of

HEARTBEAT_SECONDS: Final = 5.0
"""A streamed answer says at least every so often that it goes on; a client that left is noticed by it."""
_LONGEST_QUOTE: Final = 600
_LANGUAGE: Final = "english"
"""In whose words texts of the caller's own are compared."""
AnswerBy = Literal["auto", "model", "extractive"]
Opened = Sequence[tuple[KnowledgeBase, Searcher]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and how to answer it. `persona` is an agent's system prompt, `history` what was said before; below
    `least_confidence` the answer isn't there.
    """

    question: str
    wanted: Wanted
    by: AnswerBy = "auto"
    persona: str = ""
    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    least_confidence: float = THRESHOLD
    history: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class Citation:
    """A source that the answer rests on. `start` and `end` are the quote's place in the document, where it is known."""

    number: int
    knowledge_base_id: str
    chunk_id: str
    document_id: str | None
    title: str | None
    filename: str | None
    page: int | None
    start: int | None
    end: int | None
    quote: str


@dataclass(frozen=True, slots=True)
class Found:
    """The passages for a question and what they are worth, before anything is said."""

    asked: Asked
    passages: tuple[Passage, ...]
    evidence: Evidence
    generations: Mapping[str, int]
    seconds: float

    @property
    def confidence(self) -> float:
        """How likely the answer is in the passages; certain where a FAQ asks the very question."""
        return 1.0 if self.passages and self.passages[0].exact else self.evidence.confidence

    @property
    def answered(self) -> bool:
        """Whether there is anything to say."""
        return bool(self.passages) and self.confidence >= self.asked.least_confidence


@dataclass(frozen=True, slots=True)
class Told:
    """An answer."""

    kind: AnswerKind
    text: str
    citations: tuple[Citation, ...]
    ending: Ending | None = None


class Answering:
    """Answers questions from opened generations."""

    def __init__(self, embedders: EmbedderCatalog, retriever: Retriever, model: LanguageModel | None, observer: Observer) -> None:
        self._embedders = embedders
        self._retriever = retriever
        self._model = model
        self._observer = observer

    def find(self, opened: Opened, asked: Asked) -> Found:
        """The passages of these generations, best first.

        Raises: as `Retriever.find`.
        """
        started = time.perf_counter()
        passages = [p for base, searcher in opened for p in self._retriever.find(base, searcher, asked.question, asked.wanted)]
        if len(opened) > 1:
            passages = _merged(opened, asked.question, passages)[: asked.wanted.top_k]
        evidence = self._weighed(opened, asked.question, passages)
        seconds = time.perf_counter() - started
        self._observer.time("rag", seconds, phase="find")
        return Found(asked, tuple(passages), evidence, {base.id: base.generation for base, _ in opened}, seconds)

    def find_in(self, texts: Sequence[str], asked: Asked) -> Found:
        """The same for texts that the caller brings along: all of them are passages, weighed by the default model.

        Raises: ProviderFailure.
        """
        started = time.perf_counter()
        passages = [
            Passage("", Chunk(f"context-{n}", None, text, {"start": 0, "end": len(text)}), 0.0, None, None)
            for n, text in enumerate(texts, 1)
        ]
        evidence = gather(asked.question, passages, analyzer_of(_LANGUAGE), self._embedders.default.embed)
        return Found(asked, tuple(passages), evidence, {}, time.perf_counter() - started)

    def _weighed(self, opened: Opened, question: str, passages: Sequence[Passage]) -> Evidence:
        base = opened[0][0]
        models = {one.embedding_model for one, _ in opened}
        embed: Embed | None = None
        if len(models) == 1 and base.embedding_model is not None:
            embed = pinned_embedder(self._embedders, base).embed
        return gather(question, passages, analyzer_of(base.language), embed)

    def tell(self, found: Found) -> Told:
        """The answer, when it is whole.

        Raises: ProviderFailure; RateLimited.
        """
        telling = self.telling(found)
        for _ in telling.pieces():
            pass
        return telling.told()

    def telling(self, found: Found) -> Telling:
        """The answer as it is written. What a model refuses to begin is raised here, what fails later by the pieces.

        Raises: InvalidInput for a model that may not be asked; RateLimited; ProviderFailure.
        """
        if not found.answered:
            return self._counted(_Said(Told("none", REFUSAL, ())))
        if self._model is None or found.asked.by == "extractive" or found.passages[0].exact:
            return self._counted(_Said(_extractive(found)))
        return self._counted(_Written(found, self._model))

    def chatting(self, messages: Sequence[Message], asked: Asked) -> Telling:
        """What the model goes on with, as it is written: its own words, on no sources.

        Raises: Conflict without a model; InvalidInput for one that may not be asked; RateLimited; ProviderFailure.
        """
        if self._model is None:
            raise Conflict("this server has no language model: give context or knowledge_base_ids to answer from")
        return self._counted(
            _Chatted(self._model.begin(messages, model=asked.model, max_tokens=asked.max_tokens, temperature=asked.temperature))
        )

    def _counted(self, telling: Telling) -> Telling:
        telling.when_told = lambda told: self._observer.count("rag_answers", kind=told.kind)
        return telling


class Telling:
    """An answer on its way: take the pieces, then ask what was told. Close it when nobody listens any more."""

    when_told: Callable[[Told], None]

    def pieces(self, heartbeat_seconds: float | None = None) -> Iterator[str | None]:
        """Parts of the text, harmless; None where nothing came for that long."""
        raise NotImplementedError

    def told(self) -> Told:
        """The whole answer; after the last piece."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop."""


class _Said(Telling):
    """An answer that is known from the start."""

    def __init__(self, told: Told) -> None:
        self._told = told

    def pieces(self, heartbeat_seconds: float | None = None) -> Iterator[str | None]:
        del heartbeat_seconds
        yield self._told.text

    def told(self) -> Told:
        self.when_told(self._told)
        return self._told


class _Written(Telling):
    """An answer that a model writes."""

    def __init__(self, found: Found, model: LanguageModel) -> None:
        asked = found.asked
        self._found = found
        self._prompt = prompt(asked.question, [Excerpt(_title(p), p.surrounded) for p in found.passages], asked.persona)
        messages = [Message("system", self._prompt.system), *asked.history, Message("user", self._prompt.user)]
        self._generation: Generation = model.begin(
            messages, model=asked.model, max_tokens=asked.max_tokens, temperature=0.0 if asked.temperature is None else asked.temperature
        )
        self._parts: list[str] = []

    def pieces(self, heartbeat_seconds: float | None = None) -> Iterator[str | None]:
        for piece in Purifier(self._prompt.shown).through(self._generation.pieces(heartbeat_seconds)):
            if piece is not None:
                self._parts.append(piece)
            yield piece

    def told(self) -> Told:
        text = "".join(self._parts).strip()
        kind: AnswerKind = "none" if not text or text.strip(' "') == REFUSAL else "generated"
        numbers = cited_numbers(text) if kind == "generated" else []
        told = Told(kind, text or REFUSAL, tuple(_cited(self._found, number) for number in numbers), self._generation.ending)
        self.when_told(told)
        return told

    def close(self) -> None:
        self._generation.close()


class _Chatted(Telling):
    """What a model says without sources."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._parts: list[str] = []

    def pieces(self, heartbeat_seconds: float | None = None) -> Iterator[str | None]:
        for piece in self._generation.pieces(heartbeat_seconds):
            if piece is not None:
                self._parts.append(piece)
            yield piece

    def told(self) -> Told:
        told = Told("generated", "".join(self._parts), (), self._generation.ending)
        self.when_told(told)
        return told

    def close(self) -> None:
        self._generation.close()


def _extractive(found: Found) -> Told:
    if found.passages[0].exact:
        quote = Quote(1, 0, len(found.passages[0].text))
        return Told("extractive", f"{found.passages[0].text.strip()} [1]", (_citation(found.passages[0], quote),))
    extracted = extract(found.evidence, found.passages)
    if not extracted.text:
        return Told("none", REFUSAL, ())
    citations = [_citation(found.passages[quote.number - 1], quote) for quote in extracted.quotes]
    return Told("extractive", extracted.text, tuple(citations))


def _cited(found: Found, number: int) -> Citation:
    """The citation of a source that a model named: its sentence that answers the question best."""
    best = next((one.sentence for one in found.evidence.candidates if one.source == number - 1), None)
    passage = found.passages[number - 1]
    start, end = (best.start, best.end) if best else (0, len(passage.text))
    return _citation(passage, Quote(number, start, end))


def _citation(passage: Passage, quote: Quote) -> Citation:
    chunk, end = passage.chunk, min(quote.end, quote.start + _LONGEST_QUOTE)
    place = place_of(chunk.metadata, chunk.text, quote.start, end)
    page = chunk.metadata.get("page")
    return Citation(
        number=quote.number,
        knowledge_base_id=passage.knowledge_base_id,
        chunk_id=chunk.id,
        document_id=chunk.document_id,
        title=_text(chunk.metadata, "title"),
        filename=_text(chunk.metadata, "filename"),
        page=page if isinstance(page, int) and not isinstance(page, bool) else None,
        start=place[0],
        end=place[1],
        quote=chunk.text[quote.start : end],
    )


def _text(metadata: Mapping[str, Any], name: str) -> str | None:
    value = metadata.get(name)
    return value if isinstance(value, str) else None


def _title(passage: Passage) -> str:
    metadata = passage.chunk.metadata
    parts = [_text(metadata, "title") or _text(metadata, "filename") or "", passage.chunk.context if not passage.whole else ""]
    return " - ".join(dict.fromkeys(part for part in parts if part))


def _merged(opened: Opened, question: str, passages: Sequence[Passage]) -> list[Passage]:
    """Passages of several knowledge bases in one order. Their scores are not comparable: the question's words and the cosine decide."""
    covered = coverages(question, passages, analyzer_of(opened[0][0].language))
    worth = [(part + max(0.0, passage.cosine or 0.0)) / 2 for part, passage in zip(covered, passages, strict=True)]
    order = sorted(range(len(passages)), key=lambda place: (not passages[place].exact, -worth[place], place))
    return [replace(passages[place], score=worth[place]) for place in order]
