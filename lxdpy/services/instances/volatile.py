"""`volatile.*` keys: what the daemon notes in an instance's configuration, and what of it clients may change.

Clients read the whole configuration and write it back changed: a key that the daemon has written since then must not be
undone, and one that is left out is only removed where its absence means something, such as a NIC's address that is to
be picked anew.
"""

import re
import uuid
from collections.abc import Mapping

from lxdpy.errors import InvalidRequestError
from lxdpy.services.instances.templates import APPLY, TRIGGERS

POWER = "volatile.last_state.power"
UUID = "volatile.uuid"

_INTERFACE = re.compile(r"[A-Za-z0-9_.-]{1,15}\Z")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}\Z", re.IGNORECASE)

# The words of LXD and, for container.oci, of Incus: what these have written comes back with what is moved here.
_KEYS = re.compile(
    r"volatile\.(?:apply_nvram|apply_quota|apply_template|base_image|cloud-init\.instance-id|container\.oci"
    r"|evacuate\.origin|idmap\.(?:base|current|next)|last_state\.(?:idmap|power|ready)|uuid(?:\.generation)?|vsock_id"
    r"|.+\.(?:apply_quota|ceph_rbd|host_name|hwaddr|id|mdev|name|uuid|last_state\.[a-z0-9_.]+))\Z",
    re.DOTALL,
)


def is_host_name(key: str) -> bool:
    """Whether a configuration key names the host's end of a NIC, which is for the daemon alone to say."""
    return key.startswith("volatile.") and key.endswith(".host_name")


def is_hwaddr(key: str) -> bool:
    """Whether a configuration key is a NIC's address, made at its first start."""
    return key.startswith("volatile.") and key.endswith(".hwaddr")


def is_noted(key: str) -> bool:
    """Whether a configuration key is noted at each start: names of links, the id map (id_map.py), the templates that
    are due no more. They are for the daemon alone to say."""
    return is_host_name(key) or key.startswith("volatile.idmap.") or key in (POWER, APPLY, "volatile.last_state.idmap")


def check(key: str, value: str) -> None:
    """Refuse keys that do not exist, and values that would reach the kernel. Raises InvalidRequestError."""
    if not _KEYS.match(key):
        raise InvalidRequestError(f"Invalid config: Unknown configuration key: {key[:200]}")
    if not value:
        return
    if key == APPLY and value not in TRIGGERS:
        raise InvalidRequestError(f"Invalid config: value {value!r:.200} of {key}: expected {', '.join(TRIGGERS)}")
    if (is_hwaddr(key) and not _MAC.match(value)) or (is_host_name(key) and not _INTERFACE.match(value)):
        raise InvalidRequestError(f"Invalid config: value {value!r:.200} of {key[:200]}")
    if key == UUID:
        try:
            uuid.UUID(value)
        except ValueError:
            raise InvalidRequestError("Invalid config: Invalid UUID") from None


def merged(current: Mapping[str, str], *, running: bool, given: Mapping[str, str]) -> dict[str, str]:
    """A configuration as a client gives it, with the keys that are the daemon's, or that it has written meanwhile."""
    kept = {key: value for key, value in current.items() if is_noted(key) or key == "volatile.container.oci"}
    theirs = {key: value for key, value in given.items() if not is_noted(key)}
    defaults = {key: value for key, value in current.items() if key == UUID or (running and is_hwaddr(key))}
    return defaults | theirs | kept
