"""Storage engines: one contract (`contract.py`), several backends."""
