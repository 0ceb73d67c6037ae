"""Repositories of the analytics domain."""
