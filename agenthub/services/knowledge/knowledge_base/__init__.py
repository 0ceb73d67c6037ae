"""Knowledge bases: create, read, list, rename, delete."""
