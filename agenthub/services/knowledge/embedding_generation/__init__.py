"""Embeddings of texts through the cache."""
