"""Service 19: figures over events, from the warehouse where there is one."""
