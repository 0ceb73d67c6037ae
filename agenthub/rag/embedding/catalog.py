"""The models of this server: callers choose among these by id and can't bring others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agenthub.core.errors import InvalidInput
from agenthub.rag.embedding.cached import CachedEmbedder, CacheTally, CacheTotals
from agenthub.rag.embedding.contract import Embedder, ModelCard


class EmbedderCatalog:
    """The embedders by model id. Making it loads and asks nothing."""

    def __init__(self, embedders: Mapping[str, Embedder], cards: Mapping[str, ModelCard], default: str, tally: CacheTally) -> None:
        self._embedders = dict(embedders)
        self._cards = dict(cards)
        self._default = default
        self._tally = tally

    @property
    def default(self) -> Embedder:
        """The model used where a caller names none."""
        return self._embedders[self._default]

    def get(self, model: str) -> Embedder:
        """The model of this id.

        Raises: InvalidInput (field `embedding_model`) when this server has no such model.
        """
        embedder = self._embedders.get(model)
        if embedder is None:
            raise InvalidInput(
                f"this server has no embedding model {model!r}; it has {', '.join(self._embedders)}", field="embedding_model"
            )
        return embedder

    def forget(self, model: str, texts: Sequence[str]) -> None:
        """Overwrite what the embedding cache keeps of these texts; nothing when this server has no such model."""
        embedder = self._embedders.get(model)
        if isinstance(embedder, CachedEmbedder):
            embedder.forget(texts)

    def recall(self, model: str, texts: Sequence[str]) -> dict[str, bytes]:
        """What the embedding cache has of these texts, by name, for `restore`; nothing is embedded."""
        embedder = self._embedders.get(model)
        return embedder.recall(texts) if isinstance(embedder, CachedEmbedder) else {}

    def restore(self, model: str, entries: Mapping[str, bytes]) -> None:
        """Put what `recall` gave, here or in another process, back into the embedding cache."""
        embedder = self._embedders.get(model)
        if isinstance(embedder, CachedEmbedder):
            embedder.restore(entries)

    def withdraw(self, model: str, names: Sequence[str]) -> None:
        """Overwrite what the embedding cache keeps under these names."""
        embedder = self._embedders.get(model)
        if isinstance(embedder, CachedEmbedder):
            embedder.withdraw(names)

    def load(self, model: str) -> None:
        """Have a model of this machine ready before it is asked.

        Raises: ProviderFailure when it can't be loaded.
        """
        embedder = self._embedders.get(model)
        if isinstance(embedder, CachedEmbedder):
            embedder.load()

    def models(self) -> tuple[ModelCard, ...]:
        """All models, the default first."""
        return tuple(sorted(self._cards.values(), key=lambda card: (not card.default, card.model)))

    def cache_totals(self) -> CacheTotals:
        """What the embedding cache did since this process opened the catalog."""
        return self._tally.totals()

    def close(self) -> None:
        """Give threads and connections of all models back."""
        for embedder in self._embedders.values():
            embedder.close()
