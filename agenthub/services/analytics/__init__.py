"""Services of the analytics domain."""
