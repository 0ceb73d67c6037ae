"""Named questions beyond the contract: a statement for the SQL dialects and a function for memory each."""
