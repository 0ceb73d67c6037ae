"""Services of the knowledge domain."""
