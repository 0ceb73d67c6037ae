"""What outgoing HTTP may reach and cost, as the environment says it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from agenthub.core.errors import SettingsError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MAX_NETWORKS: Final = 100


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """Bounds of one fetch; sizes are in bytes, times in seconds.

    `plain_http` admits http:// on port 80 of public hosts. `allowed_networks` are not public and may be reached all the same,
    by http or https on any port: an operator's own risk. What names metadata services is refused even there.
    """

    plain_http: bool = False
    allowed_networks: tuple[Network, ...] = ()
    max_bytes: int = 33_554_432
    total_seconds: float = 60.0
    connect_seconds: float = 5.0
    silent_seconds: float = 15.0
    redirects: int = 5


def parse_networks(text: str) -> tuple[Network, ...]:
    """The networks of a list such as `10.2.0.0/16,fd12::/48`.

    Raises: SettingsError naming what is no network, or so wide that it is surely a mistake.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    problems: list[str] = []
    networks: list[Network] = []
    for part in parts[:MAX_NETWORKS]:
        try:
            network = ipaddress.ip_network(part)
        except ValueError:
            problems.append(f"AGENTHUB_FETCH_ALLOWED_NETWORKS: {part!r} is no network such as 10.2.0.0/16")
            continue
        if network.prefixlen < (8 if network.version == 4 else 16):
            problems.append(f"AGENTHUB_FETCH_ALLOWED_NETWORKS: {part} is too wide: name the networks of your own sources")
        networks.append(network)
    if len(parts) > MAX_NETWORKS:
        problems.append(f"AGENTHUB_FETCH_ALLOWED_NETWORKS: at most {MAX_NETWORKS} networks")
    if problems:
        raise SettingsError(problems)
    return tuple(networks)
