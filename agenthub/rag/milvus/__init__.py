"""The second adapter of the vector engine: chunks and vectors in Milvus (docs/vector-engines.md)."""
