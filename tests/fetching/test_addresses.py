from __future__ import annotations

import ipaddress

import pytest

from agenthub.core.errors import AddressRefused, SettingsError
from agenthub.fetching.addresses import check_name, checked, is_allowed, is_public
from agenthub.fetching.configuration import parse_networks

INWARD = [
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.31.255.255",
    "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.7", "203.0.113.9", "224.0.0.1", "240.0.0.1",
    "255.255.255.255", "168.63.129.16", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b:1::1",
    "100::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1", "3fff::1", "5f00::1",
    "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%lo", "fec0::1", "ff02::1", "ff0e::1",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "223.255.255.255", "2606:4700::1111", "2a00:1450:4001:81b::200e"]


@pytest.mark.parametrize("text", INWARD)
def test_addresses_that_are_not_of_the_public_internet_are_refused(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))
    with pytest.raises(AddressRefused):
        checked([text], ())


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_taken(text: str) -> None:
    assert checked([text], ()) == ((ipaddress.ip_address(text),), False)


def test_one_inward_address_among_public_ones_refuses_the_name() -> None:
    with pytest.raises(AddressRefused):
        checked(["8.8.8.8", "127.0.0.1"], ())


def test_an_allowed_network_opens_its_addresses_only() -> None:
    networks = parse_networks("10.2.0.0/16, fd12::/32")
    assert checked(["10.2.3.4"], networks) == ((ipaddress.ip_address("10.2.3.4"),), True)
    assert checked(["10.2.3.4", "8.8.8.8"], networks)[1] is False
    for refused in ("10.3.0.1", "127.0.0.1", "::ffff:10.2.3.4", "fd13::1"):
        with pytest.raises(AddressRefused):
            checked([refused], networks)


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254"]
)
def test_no_allowed_network_opens_a_metadata_service(address: str) -> None:
    everything = tuple(ipaddress.ip_network(network) for network in ("0.0.0.0/0", "::/0"))
    assert not is_allowed(ipaddress.ip_address(address), everything)
    with pytest.raises(AddressRefused):
        checked([address], everything)


@pytest.mark.parametrize("name", ["metadata", "metadata.google.internal", "METADATA.GOOGLE.INTERNAL.", "instance-data.ec2.internal"])
def test_metadata_names_are_refused_however_they_resolve(name: str) -> None:
    with pytest.raises(AddressRefused):
        check_name(name)


@pytest.mark.parametrize("text", ["10.0.0.1/8", "0.0.0.0/0", "10.0.0.0/7", "::/0", "intranet", "10.0.0.0/8;11.0.0.0/8"])
def test_allowed_networks_that_are_mistakes_are_named(text: str) -> None:
    with pytest.raises(SettingsError, match="AGENTHUB_FETCH_ALLOWED_NETWORKS"):
        parse_networks(text)
