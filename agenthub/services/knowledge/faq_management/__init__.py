"""Questions with answers: made, changed, imported and exported, and searchable in their knowledge base."""
