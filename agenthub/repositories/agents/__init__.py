"""Entities and repositories of the agents domain."""
