"""One module a revision, oldest first; each is final once it was released."""
