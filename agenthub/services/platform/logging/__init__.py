"""Service 28: the append-only audit log."""
