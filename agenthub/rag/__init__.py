"""Vectors and words on a volume: write-once files and one pointer (docs/formats/)."""
