"""Storage pools on the wire."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from lxdpy.services.storage import Pool as PoolModel
from lxdpy.services.storage import PoolResources as ResourcesModel
from lxdpy.services.storage import Settings

# LXD's clients may send null where LXD, being written in Go, reads nothing.
_Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
_Texts = Annotated[dict[str, _Text], BeforeValidator(lambda value: {} if value is None else value)]


class _Lenient(BaseModel):
    """Clients send fields of newer and older LXDs: those that lxdpy does not know are ignored."""

    model_config = ConfigDict(extra="ignore")


class StoragePoolsPost(_Lenient):
    """A new pool."""

    name: str
    driver: str = Field(description='"dir"')
    description: _Text = ""
    config: _Texts = {}


class StoragePut(_Lenient):
    """What a client may write of a pool."""

    description: _Text = ""
    config: _Texts = {}


class StoragePatch(_Lenient):
    """The part of `StoragePut` to change; an empty value removes a key."""

    description: str | None = None
    config: _Texts = {}


class StoragePool(BaseModel):
    """A storage pool."""

    name: str
    driver: str
    description: str
    config: dict[str, str]
    status: str
    used_by: list[str]
    locations: list[str]


class Resource(BaseModel):
    """How much of something there is, and is taken."""

    used: int
    total: int


class StoragePoolResources(BaseModel):
    """Numbers of a pool's file system."""

    space: Resource
    inodes: Resource


def put(body: StoragePut | StoragePoolsPost) -> Settings:
    """The writable part as a whole."""
    return Settings(body.description, body.config)


def patched(current: Settings, body: StoragePatch) -> Settings:
    """The writable part with `body`'s changes."""
    config = {**current.config, **body.config}
    return Settings(
        current.description if body.description is None else body.description,
        {key: value for key, value in config.items() if value},
    )


def pool_settings(pool: PoolModel) -> Settings:
    """What a client may write of a pool, as it is now."""
    return Settings(pool.record.description, {**pool.record.config, "source": str(pool.source)})


def writable(settings: Settings) -> dict[str, object]:
    """The part that ETags cover."""
    return {"description": settings.description, "config": dict(settings.config)}


def render_pool(pool: PoolModel) -> dict[str, object]:
    """A pool as clients read it."""
    settings = pool_settings(pool)
    return {
        "name": pool.record.name,
        "driver": pool.record.driver,
        "description": settings.description,
        "config": dict(settings.config),
        "status": "Created" if pool.available else "Unavailable",
        "used_by": list(pool.used_by),
        "locations": ["none"],
    }


def render_resources(resources: ResourcesModel) -> dict[str, object]:
    """A pool's numbers as clients read them."""
    return {
        "space": {"used": resources.space_used, "total": resources.space_total},
        "inodes": {"used": resources.inodes_used, "total": resources.inodes_total},
    }
