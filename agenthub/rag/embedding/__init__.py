"""Text to vectors: an embedded model that needs no network, or any OpenAI-compatible endpoint."""
