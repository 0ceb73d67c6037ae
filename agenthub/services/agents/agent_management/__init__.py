"""Agents: life cycle, immutable versions, status."""
