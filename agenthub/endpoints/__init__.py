"""Talking to providers' endpoints that the operator named: bounded in time and size, whatever comes back."""
