"""Answers kept for a while: every entry may vanish at any time, and a failure is a miss."""
