"""Which addresses of the Internet may be connected to (RELIABILITY.md D2-8).

An address is judged as a number after the name was resolved, never as the text a user sent: decimal, octal and hexadecimal
forms, names that point inwards and resolvers that change their mind all end at the same check.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from agenthub.core.errors import AddressRefused
from agenthub.fetching.configuration import Network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# The special-purpose registries of IANA, written out: what `is_global` says of them differs between versions of Python, and it
# calls multicast and NAT64 global.
_INWARD_4: Final = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
        "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24",
        "203.0.113.0/24", "224.0.0.0/3",
    )
)  # fmt: skip
# Only global unicast is public; from it come off: Teredo, ORCHID and other protocol assignments, documentation, 6to4, AS112.
_PUBLIC_6: Final = ipaddress.IPv6Network("2000::/3")
_INWARD_6: Final = tuple(
    ipaddress.IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)
# Where clouds hand out credentials. Azure's is a public address, and no allowed network opens any of them.
_METADATA: Final = frozenset(
    ipaddress.ip_address(address)
    for address in ("169.254.169.254", "169.254.170.2", "169.254.170.23", "100.100.100.200", "168.63.129.16", "192.0.0.192",
                    "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254")
)  # fmt: skip
_METADATA_NAMES: Final = frozenset(
    {"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal", "metadata.azure.internal"}
)


def is_public(address: Address) -> bool:
    """Whether the address is of the public Internet: not of this machine, a private network, or a form that hides another address."""
    if isinstance(address, ipaddress.IPv4Address):
        return address not in _METADATA and not any(address in network for network in _INWARD_4)
    return address.scope_id is None and address in _PUBLIC_6 and not any(address in network for network in _INWARD_6)


def is_allowed(address: Address, networks: Sequence[Network]) -> bool:
    """Whether an operator opened this address. A hidden IPv4 address is never what was meant, nor is a metadata service."""
    if isinstance(address, ipaddress.IPv6Address) and (address.scope_id is not None or address.ipv4_mapped is not None):
        return False
    return address not in _METADATA and any(address.version == network.version and address in network for network in networks)


def check_name(host: str) -> None:
    """Raises: AddressRefused for a name that leads to a metadata service, however it resolves here."""
    if host.rstrip(".").lower() in _METADATA_NAMES:
        raise AddressRefused("this address names a metadata service, which is never fetched")


def checked(texts: Sequence[str], networks: Sequence[Network]) -> tuple[tuple[Address, ...], bool]:
    """The addresses a name resolved to, and whether all of them lie in allowed networks.

    Raises: AddressRefused when there is none, or a single one of them is neither public nor allowed: a name that points inwards
    as well as outwards is an attack or a mistake.
    """
    addresses = tuple(dict.fromkeys(ipaddress.ip_address(text) for text in texts))
    if not addresses:
        raise AddressRefused("this address has no host that can be found")
    allowed = [is_allowed(address, networks) for address in addresses]
    if not all(inside or is_public(address) for address, inside in zip(addresses, allowed, strict=True)):
        raise AddressRefused("this address leads into a private network or to this machine, which is not fetched")
    return addresses, all(allowed)
