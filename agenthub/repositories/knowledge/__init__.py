"""Entities and repositories of the knowledge domain."""
