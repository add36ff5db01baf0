"""Image references: `[HOST[:PORT]/]NAME[:TAG][@DIGEST]`."""

from dataclasses import dataclass

from lxdpy.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Reference:
    """Where an image is: `registry` is normalised (docker.io), `repository` full (library/alpine)."""

    registry: str
    repository: str
    tag: str | None
    digest: Digest | None
