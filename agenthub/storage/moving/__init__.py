"""Moving rows between storages, and out of them: copy, live switch-over, backup, warehouse. One road for all (ADR 22)."""
