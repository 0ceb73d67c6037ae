"""The schema's history: additive Alembic revisions, run by `make migrate`."""
