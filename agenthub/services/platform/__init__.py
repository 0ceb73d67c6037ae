"""Services of the platform itself."""
