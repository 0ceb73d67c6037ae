"""Services of the agents domain."""
