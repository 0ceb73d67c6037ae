"""Service 26: sign-in, sessions, users, roles, organizations and API keys."""
