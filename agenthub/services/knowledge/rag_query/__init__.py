"""Questions answered from knowledge bases with citations; their history, and replays against the generation they were answered from."""
