"""One SQL backend over SQLAlchemy Core, with the differences of PostgreSQL and SQLite in a module each."""
