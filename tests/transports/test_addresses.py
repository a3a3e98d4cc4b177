"""Sixty notations of private addresses are rejected, and public addresses are accepted."""

from __future__ import annotations

import socket

import pytest

from ruxa_async.transports import PrivateAddressError, check_public, is_public
from ruxa_async.transports._addresses import public_socket

#: As links may spell them; whatever the system makes of a spelling is what is connected to.
_SPELLED = """
127.0.0.1 127.1 127.0.1 127.255.255.254 2130706433 0x7f000001 0x7f.1 0x7f.0.0.1 0177.0.0.1 017700000001 0177.1
0x7F.0x0.0x0.0x1 00000177.0.0.1 0 0.0.0.0 0x0 0.1.2.3 localhost
10.0.0.1 10.255.255.255 167772161 0xa000001 012.0.0.1 10.1 172.16.0.1 172.31.255.255 192.168.0.1 192.168.257 3232235521
100.64.0.1 100.100.100.200 169.254.169.254 169.254.170.2 2852039166 0xa9fea9fe 0251.0376.0251.0376 168.63.129.16
192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9
224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255
::1 :: ::7f00:1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:7f00:1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1
0:0:0:0:0:0:0:1 0:0:0:0:0:ffff:7f00:0001 64:ff9b::127.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b::a00:1 64:ff9b:1::808:808
2001::1 2001:0:7f00:1:: 2001:db8::1 2002:7f00:1:: 2002:c0a8:101::1 2002:808:808:: 3fff::1
fe80::1 fe80::1%lo febf::1 fec0::1 fc00::1 fd00::1 fd00:ec2::254 fd20:ce::254 ff02::1 ff0e::1 100::1 5f00::1
"""
SPELLINGS = _SPELLED.split()

#: On both sides of what is not public.
PUBLIC = """
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0
169.253.0.1 172.15.255.255 172.32.0.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255
2606:4700::1111 2a00:1450:4001::200e 2001:200::1 2001:4860:4860::8888 64:ff9b::808:808
"""


def test_at_least_sixty_notations_are_tested() -> None:
    assert len({*SPELLINGS}) >= 60


@pytest.mark.parametrize("host", SPELLINGS)
def test_no_notation_of_a_private_address_gets_a_socket(host: str) -> None:
    for info in socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM):
        with pytest.raises(PrivateAddressError):
            public_socket(info)


@pytest.mark.parametrize("address", PUBLIC.split())
def test_public_addresses_stay_public(address: str) -> None:
    assert is_public(address)
    check_public(address)


def test_a_public_address_gets_its_socket() -> None:
    (info,) = socket.getaddrinfo("8.8.8.8", 443, type=socket.SOCK_STREAM)
    with public_socket(info) as made:
        assert made.family == socket.AF_INET
