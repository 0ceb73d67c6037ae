"""Language models behind an endpoint: messages in, a text out as it is written."""
