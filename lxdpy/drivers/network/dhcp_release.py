"""Give a DHCP lease back in its client's name, as the client would (RFC 2131, section 4.4.6).

dnsmasq keeps an address for the client that had it until the lease is over, whatever its host files say by then.

dnsmasq.leases: EXPIRY HWADDR ADDRESS NAME CLIENT-ID, one lease a line; `*` for what there is not; IPv6's after `duid`.
"""

import ipaddress
import secrets
import socket
import struct
from dataclasses import dataclass

SERVER_PORT = 67

_RELEASE = 7
_COOKIE = b"\x63\x82\x53\x63"
_header = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s")


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as dnsmasq remembers it."""

    hwaddr: str
    address: str
    client_id: bytes
    """Empty when the client sent none."""


def parse(text: str) -> list[Lease]:
    """The IPv4 leases of a lease file; what can't be read is left out: dnsmasq may be writing it."""
    leases = []
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["duid"]:
            break
        try:
            _, hwaddr, address, _, client = words
            ipaddress.IPv4Address(address)
            bytes.fromhex(hwaddr.replace(":", ""))
            leases.append(Lease(hwaddr, address, b"" if client == "*" else bytes.fromhex(client.replace(":", ""))))
        except ValueError:
            continue
    return leases


def packet(lease: Lease, server: str) -> bytes:
    """The DHCPRELEASE of a lease."""
    options = bytes((53, 1, _RELEASE, 54, 4)) + ipaddress.IPv4Address(server).packed
    if lease.client_id:
        options += bytes((61, len(lease.client_id))) + lease.client_id
    hwaddr = bytes.fromhex(lease.hwaddr.replace(":", ""))
    none = bytes(4)
    header = _header.pack(
        1,
        1,
        len(hwaddr),
        0,
        secrets.randbits(32),
        0,
        0,
        ipaddress.IPv4Address(lease.address).packed,
        none,
        none,
        none,
        hwaddr,
        b"",
        b"",
    )
    return header + _COOKIE + options + b"\xff"


def release(lease: Lease, server: str, interface: str) -> None:
    """Send it, as if it came in on `interface`. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        sock.sendto(packet(lease, server), (server, SERVER_PORT))
