"""A Redis of the tests' own, with or without a password."""

from __future__ import annotations

from tests.servers.certificates import Identity
from tests.servers.memcached import PASSWORD, Daemon, find_program


class RedisServer(Daemon):
    """redis-server without persistence; with TLS only where it is given a certificate."""

    def __init__(self, *, password: bool = False, identity: Identity | None = None) -> None:
        super().__init__()
        self._program = find_program("redis-server")
        self._password = password
        self._identity = identity

    def url(self, password: str = PASSWORD) -> str:
        """The REDIS_URL."""
        scheme = "rediss" if self._identity else "redis"
        return f"{scheme}://:{password}@{self.address}/0" if self._password else f"{scheme}://{self.address}/0"

    def command(self) -> list[str]:
        login = ["--requirepass", PASSWORD] if self._password else []
        port = ["--port", str(self.port)]
        if self._identity:
            files = ["--tls-cert-file", str(self._identity.certificate), "--tls-key-file", str(self._identity.key)]
            port = ["--port", "0", "--tls-port", str(self.port), *files, "--tls-auth-clients", "no"]
        return [self._program, *port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", *login]
