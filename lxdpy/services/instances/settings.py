"""Which configuration keys and devices an instance may have, and which values.

    limits.*            see limits.py
    environment.NAME    a variable of the entrypoint and of exec'd commands
    oci.entrypoint      shell-quoted; replaces the image's entrypoint and its cmd
    oci.cmd             shell-quoted; replaces the image's cmd
    oci.cwd             absolute working directory
    oci.user            name, uid, name:group or uid:gid
    oci.uid, oci.gid    numbers; win over oci.user
    oci.stop_signal     signal of a graceful stop: SIGQUIT, QUIT, 3, SIGRTMIN+3
    security.privileged true: no user namespace
    snapshots.*         when snapshots are taken by themselves, what they are called, when they expire: see expiry.py
                        and schedule.py; snapshots.schedule.stopped true: also while the instance is stopped
    user.*, image.*, cloud-init.*
                        free text; templates of the image may use it
    volatile.*          written by the daemon

Nothing that reaches liblxc may hold NUL or a line break.
"""

import ipaddress
import re
import shlex
import signal
from collections.abc import Callable, Mapping

from lxdpy.db.instances import Devices
from lxdpy.errors import InvalidRequestError, UnsupportedError
from lxdpy.services import expiry
from lxdpy.services.booleans import parse_bool as parse_bool
from lxdpy.services.instances import disks, limits, schedule, volatile

_NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\Z")
_VARIABLE = re.compile(r"[^=\0\n\r]+\Z")
_INTERFACE = re.compile(r"[A-Za-z0-9_.-]{1,15}\Z")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}\Z", re.IGNORECASE)
_REAL_TIME = re.compile(r"(?:SIG)?RT(MIN\+|MAX-)(\d+)\Z")
_FREE = ("user.", "image.")
_CLOUD_INIT = ("cloud-init.network-config", "cloud-init.user-data", "cloud-init.vendor-data")
_NIC_KEYS = {
    "type",
    "name",
    "network",
    "nictype",
    "parent",
    "hwaddr",
    "ipv4.address",
    "ipv6.address",
    "host_name",
    "mtu",
}
_NIC_TYPES = ("bridged", "macvlan", "p2p", "physical")


def check_name(name: str) -> None:
    """Refuse what is not a host name of at most 63 characters. Raises InvalidRequestError."""
    if not _NAME.match(name):
        raise InvalidRequestError(
            f"Invalid instance name {name!r:.100}: 1 to 63 letters, digits and hyphens, beginning with a letter "
            "and not ending with a hyphen"
        )


def parse_signal(text: str) -> int:
    """A signal's number from `SIGTERM`, `TERM`, `15` or `SIGRTMIN+3`. Raises InvalidRequestError."""
    name = text.strip().upper()
    if name.isascii() and name.isdigit() and 1 <= int(name) <= signal.SIGRTMAX:
        return int(name)
    if match := _REAL_TIME.match(name):
        offset = int(match[2])
        number = signal.SIGRTMIN + offset if match[1] == "MIN+" else signal.SIGRTMAX - offset
        if signal.SIGRTMIN <= number <= signal.SIGRTMAX:
            return number
    else:
        try:
            return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"].value
        except KeyError:
            pass
    raise InvalidRequestError(f"Invalid signal {text!r:.100}")


def _command(value: str) -> None:
    if not shlex.split(value):
        raise InvalidRequestError("it holds no word")


def _directory(value: str) -> None:
    if not value.startswith("/"):
        raise InvalidRequestError("it must be an absolute path")


def _id(value: str) -> None:
    if not (value.isascii() and value.isdigit() and int(value) < 2**32 - 1):
        raise InvalidRequestError("it must be a number from 0 to 4294967294")


def _user(value: str) -> None:
    if not re.fullmatch(r"[^\s:]+(?::[^\s:]+)?", value):
        raise InvalidRequestError("expected NAME, UID, NAME:GROUP or UID:GID")


_KEYS: Mapping[str, Callable[[str], object]] = {
    **limits.CHECKS,
    "oci.cmd": shlex.split,
    "oci.cwd": _directory,
    "oci.entrypoint": _command,
    "oci.gid": _id,
    "oci.stop_signal": parse_signal,
    "oci.uid": _id,
    "oci.user": _user,
    "security.privileged": parse_bool,
    "snapshots.expiry": expiry.check_expression,
    "snapshots.pattern": expiry.check_pattern,
    "snapshots.schedule": schedule.check,
    "snapshots.schedule.stopped": parse_bool,
}


def check_config(config: Mapping[str, str], *, system: bool = False) -> None:
    """Raises InvalidRequestError for a key that is unknown, or is not for a system, or a value that can't be."""
    for key, value in config.items():
        if system and key.startswith("oci."):
            raise InvalidRequestError(f"Invalid config: {key[:200]} is for applications, and this instance is a system")
        if "\0" in value or "\0" in key or "\n" in key:
            raise InvalidRequestError(f"Invalid config: NUL or line break in key or value of {key!r:.100}")
        if key.startswith(_FREE) or key in _CLOUD_INIT:
            continue
        if key.startswith("volatile."):
            volatile.check(key, value)
            continue
        if "\n" in value or "\r" in value:
            raise InvalidRequestError(f"Invalid config: line break in the value of {key!r:.100}")
        if key.startswith("environment."):
            if not _VARIABLE.match(key.removeprefix("environment.")):
                raise InvalidRequestError(f"Invalid config: bad environment variable name in {key!r:.100}")
            continue
        check = _KEYS.get(key)
        if check is None:
            raise InvalidRequestError(f"Invalid config: Unknown configuration key: {key[:200]}")
        if value:
            try:
                check(value)
            except (InvalidRequestError, ValueError) as exc:
                raise InvalidRequestError(f"Invalid config: value {value!r:.200} of {key}: {exc}") from exc


def check_devices(devices: Devices) -> None:
    """Raises InvalidRequestError for a device that can't be, UnsupportedError for a kind that is not offered."""
    for name, device in devices.items():
        for key, value in device.items():
            if any(char in text for char in "\0\n\r" for text in (name, key, value)):
                raise InvalidRequestError(f"Invalid device {name!r:.100}: NUL or line break in {key!r:.100}")
        match device.get("type"):
            case "none":
                pass
            case "nic":
                _check_nic(name, device)
            case "disk":
                disks.check(name, device)
            case kind:
                raise UnsupportedError(f'Invalid device "{name}": type {kind!r:.100} is not supported')


def _check_nic(name: str, device: Mapping[str, str]) -> None:
    _check_keys(name, device, _NIC_KEYS)
    kind = device.get("nictype", "bridged")
    if kind not in _NIC_TYPES:
        raise UnsupportedError(f'Invalid device "{name}": nictype {kind!r:.50} is not supported')
    if device.get("network"):
        if other := device.keys() & {"nictype", "parent"}:
            raise InvalidRequestError(f'Invalid device "{name}": "{min(other)}" can\'t be used with "network"')
    elif kind == "p2p":
        if "parent" in device:
            raise InvalidRequestError(f'Invalid device "{name}": a p2p nic has no parent')
    elif not device.get("parent"):
        raise InvalidRequestError(f'Invalid device "{name}": a nic needs "network", or "nictype" and "parent"')
    elif not _INTERFACE.match(device["parent"]):
        raise InvalidRequestError(f'Invalid device "{name}": bad parent {device["parent"]!r:.50}')
    for key, value in (("name", device.get("name", name)), ("host_name", device.get("host_name", "x"))):
        if not _INTERFACE.match(value) or value in (".", ".."):
            raise InvalidRequestError(
                f'Invalid device "{name}": "{key}" must be 1 to 15 letters, digits, ".", "_", "-"'
            )
    if "hwaddr" in device and not _MAC.match(device["hwaddr"]):
        raise InvalidRequestError(f'Invalid device "{name}": bad hwaddr {device["hwaddr"]!r:.50}')
    if "mtu" in device and not re.fullmatch(r"[0-9]{2,5}", device["mtu"]):
        raise InvalidRequestError(f'Invalid device "{name}": bad mtu {device["mtu"]!r:.50}')
    for key, parse in (("ipv4.address", ipaddress.IPv4Address), ("ipv6.address", ipaddress.IPv6Address)):
        try:
            if device.get(key):
                parse(device[key])
        except ValueError as exc:
            raise InvalidRequestError(f'Invalid device "{name}": {key}: {exc}') from exc


def _check_keys(name: str, device: Mapping[str, str], known: set[str]) -> None:
    if unknown := sorted(set(device) - known):
        raise InvalidRequestError(f'Invalid device "{name}": unknown key {unknown[0]!r:.100}')
