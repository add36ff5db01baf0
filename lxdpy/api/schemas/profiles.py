"""Profiles on the wire."""

from collections.abc import Iterable

from pydantic import BaseModel, Field

from lxdpy.api.schemas.instances import Lenient, Texts, devices_with_values, with_values
from lxdpy.db.profiles import ProfileRecord
from lxdpy.project import instance_url
from lxdpy.services.instances import ProfileSettings


class Profile(BaseModel):
    """What instances share."""

    name: str
    description: str
    config: dict[str, str]
    devices: dict[str, dict[str, str]]
    used_by: list[str]


class ProfilePut(Lenient):
    """What a client may write of a profile."""

    description: str | None = None
    config: Texts | None = None
    devices: dict[str, Texts] | None = None


class ProfilesPost(ProfilePut):
    """A new profile."""

    name: str | None = Field(None, description="what it is called; no slash in it")


class ProfilePatch(ProfilePut):
    """The part of `ProfilePut` to change; maps are merged, an empty value removes a key."""


class ProfilePost(Lenient):
    """Another name."""

    name: str | None = None


def settings(body: ProfilePut) -> ProfileSettings:
    """The writable part as a whole; what is absent is empty."""
    return ProfileSettings(
        body.description or "", with_values(body.config or {}), devices_with_values(body.devices or {})
    )


def patched(current: ProfileRecord, body: ProfilePatch) -> ProfileSettings:
    """The writable part with `body`'s changes."""
    config = {**current.config, **(body.config or {})}
    devices = {**current.devices, **(body.devices or {})}
    return ProfileSettings(
        description=current.description if body.description is None else body.description,
        config=with_values(config),
        devices={name: device for name, device in devices_with_values(devices).items() if device},
    )


def render(profile: ProfileRecord, used_by: Iterable[str]) -> dict[str, object]:
    """A profile as clients read it; `used_by` are instances by their names below the API."""
    return {
        "name": profile.name,
        "description": profile.description,
        "config": profile.config,
        "devices": profile.devices,
        "used_by": [instance_url(name) for name in used_by],
    }


def writable(profile: ProfileRecord) -> list[object]:
    """The part that ETags cover."""
    devices = {name: dict(device) for name, device in profile.devices.items()}
    return [dict(profile.config), profile.description, devices]
