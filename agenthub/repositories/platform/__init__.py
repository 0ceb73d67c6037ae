"""Entities and repositories of the platform domain."""
