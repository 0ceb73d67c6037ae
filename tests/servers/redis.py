"""A Redis of the tests' own, with or without a password."""

from __future__ import annotations

from tests.servers.memcached import PASSWORD, Daemon, find_program


class RedisServer(Daemon):
    """redis-server without persistence."""

    def __init__(self, *, password: bool = False) -> None:
        super().__init__()
        self._program = find_program("redis-server")
        self._password = password

    def url(self, password: str = PASSWORD) -> str:
        """The REDIS_URL."""
        return f"redis://:{password}@{self.address}/0" if self._password else f"redis://{self.address}/0"

    def command(self) -> list[str]:
        login = ["--requirepass", PASSWORD] if self._password else []
        return [self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", *login]
