"""What a network's configuration may say, and what it means.

    bridge.hwaddr           the bridge's address
    bridge.mtu              of the bridge and of the NICs on it
    ipv4.address            gateway with prefix, `auto` (a free network is picked) or `none`
    ipv4.nat                masquerade what leaves the network
    ipv4.dhcp               give addresses (default true)
    ipv4.dhcp.ranges        FIRST-LAST,...: give only these
    ipv4.dhcp.expiry        life time of DHCP leases (default 1h)
    ipv6.address            gateway with prefix, `auto` (a random local network) or `none`
    ipv6.nat                masquerade what leaves the network
    ipv6.dhcp               stateless DHCPv6 beside router advertisements (default true)
    dns.mode                managed (default), dynamic or none
    dns.domain              default lxd
    dns.search              domains to search, instead of dns.domain
    user.*                  free text

Other keys of LXD's are refused as not supported, and all others as unknown.
"""

import ipaddress
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from lxdpy.drivers.base import BridgeSpec, ServedNetwork
from lxdpy.errors import InvalidRequestError, UnsupportedError

DEFAULT_DOMAIN = "lxd"
DEFAULT_EXPIRY = "1h"

_NAME = re.compile(r"(?!\.\.?\Z)[A-Za-z0-9_.-]{2,15}\Z")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}\Z", re.IGNORECASE)
_EXPIRY = re.compile(r"(?:[0-9]{1,6}[mhdw]|[0-9]{3,9}s?|infinite)\Z")
_DOMAIN = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\Z"
)
_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_LXDS = (
    "bgp.",
    "bridge.",
    "dns.",
    "fan.",
    "ipv4.",
    "ipv6.",
    "maas.",
    "ovn.",
    "raw.",
    "security.",
    "tunnel.",
    "volatile.",
)
_NO_ADDRESS = ("", "none", "auto")
_ATTEMPTS = 100

Range = tuple[ipaddress.IPv4Address, ipaddress.IPv4Address]


@dataclass(frozen=True, slots=True)
class Settings:
    """A network's configuration, understood."""

    served: ServedNetwork
    ipv4: ipaddress.IPv4Interface | None
    ipv6: ipaddress.IPv6Interface | None
    ranges: tuple[Range, ...]
    """Which addresses are given without being asked for; empty: all of the network."""

    @property
    def is_served(self) -> bool:
        """Whether there is anything to serve on it."""
        served = self.served
        return self.ipv6 is not None or (self.ipv4 is not None and (served.ipv4_dhcp or served.dns != "none"))

    @property
    def bridge(self) -> BridgeSpec:
        """What the host is to make of it."""
        return self.served.bridge

    def overlap(self, other: "Settings") -> tuple[str, str] | None:
        """What of this network and what of another are the same addresses, if any are."""
        if self.ipv4 and other.ipv4 and self.ipv4.network.overlaps(other.ipv4.network):
            return str(self.ipv4.network), str(other.ipv4.network)
        if self.ipv6 and other.ipv6 and self.ipv6.network.overlaps(other.ipv6.network):
            return str(self.ipv6.network), str(other.ipv6.network)
        return None


def slaac(network: ipaddress.IPv6Network, hwaddr: str) -> ipaddress.IPv6Address:
    """The address that a host gives itself by a router's advertisement, unless it makes a secret of its hardware
    address (RFC 4291, appendix A)."""
    octets = bytes.fromhex(hwaddr.replace(":", ""))
    suffix = bytes((octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]))
    return network[int.from_bytes(suffix, "big")]


def check_name(name: str) -> None:
    """Raises InvalidRequestError for what is no name of an interface."""
    if not _NAME.match(name):
        raise InvalidRequestError(
            f'Invalid network name {name!r:.100}: 2 to 15 letters, digits, "_", "." and "-"; it is the bridge\'s name'
        )


def completed(
    config: Mapping[str, str], *, new: bool, taken: Iterable[ipaddress.IPv4Network], ipv6: bool = True
) -> dict[str, str]:
    """A configuration without `auto`: free networks are picked, `taken` being those that are in use.

    A new network that says nothing of addresses gets both kinds, if the host has `ipv6`, with NAT. Raises
    InvalidRequestError when none is free.
    """
    result = {key: value for key, value in config.items() if value != ""}
    if new:
        result.setdefault("ipv4.address", "auto")
        result.setdefault("ipv6.address", "auto" if ipv6 else "none")
    if result.get("ipv4.address") == "auto":
        result["ipv4.address"] = _free_ipv4(list(taken))
        result.setdefault("ipv4.nat", "true")
    if result.get("ipv6.address") == "auto":
        result["ipv6.address"] = _random_ipv6()
        result.setdefault("ipv6.nat", "true")
    return result


def parse(name: str, config: Mapping[str, str]) -> Settings:
    """Raises InvalidRequestError for a key that is unknown or a value that can't be, UnsupportedError for a key of
    LXD's that is not offered."""
    for key, value in config.items():
        _check(name, key, value)
    ipv4 = _ipv4(config.get("ipv4.address", ""))
    ipv6 = _ipv6(config.get("ipv6.address", ""))
    ranges = _ranges(config.get("ipv4.dhcp.ranges", ""))
    for first, last in ranges:
        if ipv4 is None or first not in ipv4.network or last not in ipv4.network:
            raise _invalid(name, "ipv4.dhcp.ranges", f"{first}-{last} is not in the network of ipv4.address")
    bridge = BridgeSpec(
        name=name,
        ipv4_address=str(ipv4) if ipv4 else "",
        ipv4_nat=_boolean(config.get("ipv4.nat", "")),
        ipv6_address=str(ipv6) if ipv6 else "",
        ipv6_nat=_boolean(config.get("ipv6.nat", "")),
        mtu=int(config.get("bridge.mtu") or 0),
        hwaddr=config.get("bridge.hwaddr", "").lower(),
    )
    served = ServedNetwork(
        bridge=bridge,
        ipv4_dhcp=_boolean(config.get("ipv4.dhcp") or "true"),
        ipv4_expiry=config.get("ipv4.dhcp.expiry") or DEFAULT_EXPIRY,
        ipv6_dhcp=_boolean(config.get("ipv6.dhcp") or "true"),
        dns=config.get("dns.mode") or "managed",
        domain=config.get("dns.domain") or DEFAULT_DOMAIN,
        search=",".join(_words(config.get("dns.search", ""))),
    )
    return Settings(served, ipv4, ipv6, ranges)


def _check(name: str, key: str, value: str) -> None:
    if any(char in text for char in "\0\n\r" for text in (key, value)) and not key.startswith("user."):
        raise _invalid(name, key, "it holds NUL or a line break")
    if key.startswith("user."):
        return
    check = _KEYS.get(key)
    if check is None:
        if key.startswith(_LXDS):
            raise UnsupportedError(f'Option "{key:.100}" of network "{name}" is not supported')
        raise InvalidRequestError(f'Invalid option for network "{name}" option "{key:.100}"')
    if value:
        try:
            check(value)
        except ValueError as exc:
            raise _invalid(name, key, str(exc)) from exc


def _invalid(name: str, key: str, why: str) -> InvalidRequestError:
    return InvalidRequestError(f'Invalid value for network "{name}" option "{key}": {why:.300}')


def _boolean(value: str) -> bool:
    if not value:
        return False
    try:
        return _BOOLEANS[value.lower()]
    except KeyError:
        raise ValueError(f"Invalid value for a boolean {value!r:.100}") from None


def _mtu(value: str) -> None:
    if not (value.isascii() and value.isdigit() and len(value) < 6 and 1280 <= int(value) <= 65535):
        raise ValueError(f"Invalid MTU {value!r:.100}: expected 1280 to 65535")


def _hwaddr(value: str) -> None:
    if not _MAC.match(value) or int(value[:2], 16) & 1:
        raise ValueError(f"Invalid MAC address {value!r:.100}")


def _ipv4(value: str) -> ipaddress.IPv4Interface | None:
    interface = None if value in _NO_ADDRESS else ipaddress.IPv4Interface(value)
    _check_interface(value, interface)
    return interface


def _ipv6(value: str) -> ipaddress.IPv6Interface | None:
    if "%" in value:
        # Python would keep it, and what is put on the bridge would never equal what is wanted.
        raise ValueError(f"{value!r:.100} has a zone")
    interface = None if value in _NO_ADDRESS else ipaddress.IPv6Interface(value)
    _check_interface(value, interface)
    if interface is not None and interface.network.prefixlen != 64:
        raise ValueError(f"{value} is not in a /64, which router advertisements take")
    return interface


def _check_interface(value: str, interface: ipaddress.IPv4Interface | ipaddress.IPv6Interface | None) -> None:
    if interface is None:
        return
    network = interface.network
    if "/" not in value:
        raise ValueError(f"expected ADDRESS/PREFIX, `auto` or `none`, not {value!r:.100}")
    if network.max_prefixlen - network.prefixlen < 2 or interface.ip in (
        network.network_address,
        network.broadcast_address,
    ):
        raise ValueError(f"{value} is not a host's address in a network of /{network.max_prefixlen - 2} or larger")
    if interface.ip.is_loopback or interface.ip.is_multicast or interface.ip.is_unspecified:
        raise ValueError(f"{value} is not an address that hosts can have")


def _ranges(value: str) -> tuple[Range, ...]:
    ranges = []
    for item in _words(value):
        first, dash, last = item.partition("-")
        if not dash:
            raise ValueError(f'Item "{item}": IP range must contain start and end IP addresses')
        pair = (ipaddress.IPv4Address(first.strip()), ipaddress.IPv4Address(last.strip()))
        if pair[0] > pair[1]:
            raise ValueError(f'Item "{item}": the start is after the end')
        ranges.append(pair)
    return tuple(ranges)


def _words(value: str) -> list[str]:
    return [word.strip() for word in value.split(",") if word.strip()]


def _expiry(value: str) -> None:
    if not _EXPIRY.match(value):
        raise ValueError(f"Invalid time {value!r:.100}: expected e.g. 3600, 90m, 1h, 7d or infinite")


def _mode(value: str) -> None:
    if value not in ("managed", "dynamic", "none"):
        raise ValueError(f"Invalid value {value!r:.100} (not one of managed, dynamic, none)")


def _domain(value: str) -> None:
    if len(value) > 253 or not _DOMAIN.match(value):
        raise ValueError(f"Invalid domain {value!r:.100}")


def _domains(value: str) -> None:
    for word in _words(value):
        _domain(word)


_KEYS: Mapping[str, Callable[[str], object]] = {
    "bridge.hwaddr": _hwaddr,
    "bridge.mtu": _mtu,
    "dns.domain": _domain,
    "dns.mode": _mode,
    "dns.search": _domains,
    "ipv4.address": _ipv4,
    "ipv4.dhcp": _boolean,
    "ipv4.dhcp.expiry": _expiry,
    "ipv4.dhcp.ranges": _ranges,
    "ipv4.nat": _boolean,
    "ipv6.address": _ipv6,
    "ipv6.dhcp": _boolean,
    "ipv6.nat": _boolean,
}


def _free_ipv4(taken: list[ipaddress.IPv4Network]) -> str:
    for _ in range(_ATTEMPTS):
        network = ipaddress.IPv4Network((10 << 24 | secrets.randbelow(1 << 16) << 8, 24))
        if not any(network.overlaps(other) for other in taken):
            return f"{network.network_address + 1}/24"
    raise InvalidRequestError("Cannot find an unused IPv4 network: say which by ipv4.address")


def _random_ipv6() -> str:
    """A unique local network (RFC 4193)."""
    prefix = bytes((0xFD, 0x42)) + secrets.token_bytes(6) + bytes(7) + b"\x01"
    return f"{ipaddress.IPv6Address(prefix)}/64"
