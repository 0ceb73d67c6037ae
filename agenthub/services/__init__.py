"""The services: each package is one deployable blueprint set, named in registry.py."""
