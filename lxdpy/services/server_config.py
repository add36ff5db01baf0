"""The server's configuration: what clients change at run time (`lxc config set`), as the daemon's file can't be.

A key is known when something here reads it, or it begins with `user.`. LXD's other keys are refused with the reason.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lxdpy.db import server_config as table
from lxdpy.db.connection import Database
from lxdpy.errors import InvalidRequestError, UnsupportedError
from lxdpy.services import compression
from lxdpy.services.events import Announce
from lxdpy.services.uninterrupted import uninterrupted

_MOST_KEYS = 1000
_MOST_CHARACTERS = 64 << 10
_LARGEST = 1_000_000
_TRUE = frozenset(("true", "1", "yes", "on"))
_FALSE = frozenset(("false", "0", "no", "off"))

_SOCKET_ONLY = "this daemon listens on its unix socket only"
_REFUSED = {
    "core.https_address": _SOCKET_ONLY,
    "core.https_allowed_credentials": _SOCKET_ONLY,
    "core.https_allowed_headers": _SOCKET_ONLY,
    "core.https_allowed_methods": _SOCKET_ONLY,
    "core.https_allowed_origin": _SOCKET_ONLY,
    "core.https_trusted_proxy": _SOCKET_ONLY,
    "core.metrics_address": _SOCKET_ONLY,
    "core.metrics_authentication": _SOCKET_ONLY,
    "core.debug_address": _SOCKET_ONLY,
    "core.trust_ca_certificates": _SOCKET_ONLY,
    "core.trust_password": f"{_SOCKET_ONLY}, and whoever may open that is trusted",
    "core.proxy_http": "proxies are taken from the daemon's environment (http_proxy)",
    "core.proxy_https": "proxies are taken from the daemon's environment (https_proxy)",
    "core.proxy_ignore_hosts": "proxies are taken from the daemon's environment (no_proxy)",
    "core.shutdown_timeout": "it is timeout_s of [shutdown] in the daemon's configuration file",
    "core.bgp_address": "there is no BGP server",
    "core.bgp_asn": "there is no BGP server",
    "core.bgp_routerid": "there is no BGP server",
    "core.dns_address": "there is no DNS server",
}
_REFUSED_SPACES = {
    "candid.": "there is no authentication but the unix socket's",
    "oidc.": "there is no authentication but the unix socket's",
    "rbac.": "there is no authentication but the unix socket's",
    "acme.": _SOCKET_ONLY,
    "cluster.": "this daemon is no member of a cluster",
    "loki.": "logs go to the daemon's standard error",
    "maas.": "MAAS is not supported",
}


@dataclass(frozen=True, slots=True)
class _Key:
    """A key that something reads: its default, and what makes a valid text of a text (or raises ValueError)."""

    default: str
    read: Callable[[str], str]


class ServerConfig:
    """What is set. `architectures` are those whose images this host can run."""

    def __init__(self, database: Database, announce: Announce, architectures: Sequence[str]) -> None:
        self._database = database
        self._announce = announce
        self._keys = {
            "backups.compression_algorithm": _Key("gzip", _tar_compression),
            "images.auto_update_cached": _Key("true", _boolean),
            "images.auto_update_interval": _Key("6", _count),
            "images.compression_algorithm": _Key("gzip", _compression),
            "images.default_architecture": _Key("", lambda text: _one_of(text, ("", *architectures))),
            "images.remote_cache_expiry": _Key("10", _count),
        }
        self._values: dict[str, str] = {}
        self._listeners: list[Callable[[], None]] = []
        self._changing = asyncio.Lock()

    async def load(self) -> None:
        """Read the database."""
        self._values = await self._database.run(table.load)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever something was set."""
        self._listeners.append(listener)

    # ---- reading

    @property
    def values(self) -> Mapping[str, str]:
        """What clients have set: defaults are not in it."""
        return dict(sorted(self._values.items()))

    def text(self, key: str) -> str:
        """The value of a known key, or its default."""
        return self._values.get(key, self._keys[key].default)

    @property
    def auto_update_cached(self) -> bool:
        """Whether images that are fetched for an instance are kept up to date."""
        return self.text("images.auto_update_cached") == "true"

    @property
    def auto_update_interval_s(self) -> float:
        """How often images are looked after; 0: never."""
        return int(self.text("images.auto_update_interval")) * 3600.0

    @property
    def remote_cache_expiry_s(self) -> float:
        """How long a fetched image is kept that no instance is made of."""
        return int(self.text("images.remote_cache_expiry")) * 86_400.0

    @property
    def default_architecture(self) -> str:
        """That of images of which no other is asked for; "" is the host's."""
        return self.text("images.default_architecture")

    # ---- changing

    async def update(self, wanted: Callable[[Mapping[str, str]], Mapping[str, object]]) -> None:
        """Replace all that is set by `wanted(what is set)`; what that raises is raised. An empty value is none.

        Raises InvalidRequestError, UnsupportedError for a key or value that can't be; then nothing is changed.
        """
        await uninterrupted(self._update(wanted))

    async def _update(self, wanted: Callable[[Mapping[str, str]], Mapping[str, object]]) -> None:
        async with self._changing:
            values = self._read(wanted(self.values))
            if values == self._values:
                return
            await self._database.run(lambda db: table.replace(db, values))
            self._values = values
        self._announce("config-updated", "/1.0")
        for listener in self._listeners:
            listener()

    def _read(self, given: Mapping[str, object]) -> dict[str, str]:
        if len(given) > _MOST_KEYS:
            raise InvalidRequestError(f"Cannot set {len(given)} keys of the server: at most {_MOST_KEYS}")
        values = {}
        for name, value in given.items():
            text = self._value(name, _text(name, value))
            if text:
                values[name] = text
        return values

    def _value(self, name: str, text: str) -> str:
        """What is kept of a value; "" for none, or the default."""
        if name.startswith("user.") and len(name) > len("user."):
            if "\0" in text or len(text) > _MOST_CHARACTERS:
                raise InvalidRequestError(f'Cannot set "{name}": its value is too long, or has a NUL in it')
            return text
        key = self._keys.get(name)
        if key is None:
            if reason := _refusal(name):
                if text:
                    raise UnsupportedError(f'Cannot set "{name}": {reason}')
                return ""
            raise InvalidRequestError(f"cannot set {name[:100]!r} to {text[:100]!r}: unknown key")
        try:
            valid = key.read(text) if text else key.default
        except ValueError as exc:
            raise InvalidRequestError(f"cannot set '{name}' to {text[:100]!r}: {exc}") from None
        return "" if valid == key.default else valid


def _refusal(name: str) -> str | None:
    spaces = (reason for prefix, reason in _REFUSED_SPACES.items() if name.startswith(prefix))
    return _REFUSED.get(name) or next(spaces, None)


def _text(name: str, value: object) -> str:
    """A value as JSON brings it, as text."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str() | int():
            return str(value)
    raise InvalidRequestError(f'Cannot set "{name:.100}": its value is neither text, number nor truth value')


def _boolean(text: str) -> str:
    if text.lower() in _TRUE:
        return "true"
    if text.lower() in _FALSE:
        return "false"
    raise ValueError("invalid boolean")


def _count(text: str) -> str:
    if not (text.isascii() and text.isdigit() and int(text[:9]) <= _LARGEST):
        raise ValueError(f"invalid integer (0 to {_LARGEST})")
    return str(int(text))


def _compression(text: str) -> str:
    compression.parse(text)
    return text


def _tar_compression(text: str) -> str:
    if compression.parse(text).name == "squashfs":
        raise ValueError("a backup is a tarball")
    return text


def _one_of(text: str, known: Sequence[str]) -> str:
    if text not in known:
        raise ValueError(f"it is none of {', '.join(filter(None, known))}")
    return text
