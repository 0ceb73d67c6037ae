"""Search in a knowledge base by meaning, by keyword and by both."""
