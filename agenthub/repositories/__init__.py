"""Typed collections over the storage contract: one entity, one table, one repository per module."""
