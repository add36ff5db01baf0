"""Profiles: what instances share. There is the one that LXD's clients count on, `default`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lxdpy.db.instances import Devices
from lxdpy.errors import NotFoundError


@dataclass(frozen=True, slots=True)
class Profile:
    """A named set of configuration and devices."""

    name: str
    description: str
    config: Mapping[str, str] = field(default_factory=dict)
    devices: Devices = field(default_factory=dict)


class Profiles:
    """Every profile of this host."""

    def __init__(self, bridge: str) -> None:
        self._profiles = {
            "default": Profile(
                "default",
                "Default lxdpy profile",
                devices={
                    "eth0": {"type": "nic", "name": "eth0", "network": bridge},
                    "root": {"type": "disk", "path": "/", "pool": "default"},
                },
            )
        }

    def all(self) -> list[Profile]:
        """Every profile by name."""
        return [self._profiles[name] for name in sorted(self._profiles)]

    def get(self, name: str) -> Profile:
        """One profile. Raises NotFoundError."""
        try:
            return self._profiles[name]
        except KeyError:
            raise NotFoundError(f'Profile "{name}" not found') from None

    def expand(
        self, names: tuple[str, ...], config: Mapping[str, str], devices: Devices
    ) -> tuple[dict[str, str], dict[str, Mapping[str, str]]]:
        """Configuration and devices as they apply: later profiles win, the instance's own win over all."""
        all_config: dict[str, str] = {}
        all_devices: dict[str, Mapping[str, str]] = {}
        for name in names:
            profile = self.get(name)
            all_config.update(profile.config)
            all_devices.update(profile.devices)
        return {**all_config, **config}, {**all_devices, **devices}
