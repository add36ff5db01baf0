"""Names for the shell's completion; silent if the daemon does not answer at once."""

import asyncio

from lxdpy.client import AsyncClient, LXDError

TIMEOUT_S = 1.0


def instance_names() -> list[str]:
    """All instances."""
    return asyncio.run(_names("instances"))


def image_names() -> list[str]:
    """All images' aliases and short fingerprints."""
    return asyncio.run(_names("images"))


async def _names(kind: str) -> list[str]:
    try:
        async with AsyncClient(timeout=TIMEOUT_S) as client:
            if kind == "instances":
                return [instance.name for instance in await client.instances.list()]
            records = [image.record for image in await client.images.list()]
            return [name for record in records for name in (*record.aliases, record.fingerprint[:12])]
    except LXDError:
        return []
