"""Service 22: liveness, readiness and what is running."""
