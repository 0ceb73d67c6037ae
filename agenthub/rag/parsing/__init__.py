"""From the bytes of an uploaded file to blocks of text with their page and headings, or a reasoned refusal."""
