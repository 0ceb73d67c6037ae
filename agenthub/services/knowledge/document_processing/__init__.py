"""Documents and chunks of a knowledge base: upload, preview, replace, delete."""
