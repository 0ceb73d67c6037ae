"""BigQuery as a storage backend, on its native client (ADR 21)."""
