"""Events on their way from the database to a warehouse, each exactly once (ADR 25)."""
