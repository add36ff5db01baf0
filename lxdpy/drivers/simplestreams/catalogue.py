"""What an image server's documents mean.

    streams/v1/index.json     index: {NAME: {datatype: image-downloads, format: products:1.0, path, products: [..]}}
    PATH                      products: {NAME: {aliases: "a,b", arch, os, release, release_title, variant, requirements,
                                 versions: {20260102_07:42: {label, items: {NAME: {ftype, path, size, sha256, ...}}}}}}

An image is one version in one form: `lxd.tar.xz` with `squashfs` or `root.tar.xz`, whose common fingerprint is a
`combined_*sha256` of the former; or `lxd_combined.tar.gz` alone. Incus' names are understood as well. A product that
can't be read is one that there is not: servers have what is not for us, too.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lxdpy.drivers.base import RemoteFile, RemoteImage
from lxdpy.errors import InvalidRequestError, NotFoundError, RegistryError
from lxdpy.oci.digest import Digest
from lxdpy.oci.document import Fields

DOWNLOADS = "image-downloads"
PRODUCTS = "products:1.0"

_METADATA = ("lxd.tar.xz", "incus.tar.xz")
_COMBINED = ("lxd_combined.tar.gz", "incus_combined.tar.gz")
# The first is the one that an alias means.
_ROOTFS = (
    ("squashfs", ("combined_squashfs_sha256",)),
    ("root.tar.xz", ("combined_rootxz_sha256", "combined_sha256")),
)
_HEX = re.compile(r"[0-9a-f]{6,64}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_MAX_FILE_BYTES = 1 << 40


@dataclass(frozen=True, slots=True)
class Offer:
    """An image that a server has, and by which names."""

    image: RemoteImage
    architecture: str
    """As the server names it."""
    serial: str
    aliases: tuple[str, ...]
    rank: int
    """Of two forms of one version, the lower is meant."""


def product_files(index: Fields) -> tuple[str, ...]:
    """The paths of the documents that list images."""
    found = []
    for entry in _children(index, "index"):
        if entry.text("datatype") == DOWNLOADS and entry.text("format") in (PRODUCTS, "") and entry.text("path"):
            found.append(entry.text("path"))
    return tuple(dict.fromkeys(found))


def offers(products: Fields, server: str) -> Iterator[Offer]:
    """Every image of a document of products."""
    if products.text("datatype") not in (DOWNLOADS, ""):
        return
    for product in _children(products, "products"):
        versions = product.object("versions")
        for serial in versions.names():
            try:
                yield from _version(server, product, serial, versions.object(serial))
            except (RegistryError, InvalidRequestError):
                continue


def choose(found: Iterable[Offer], name: str, *, architectures: Sequence[tuple[str, str]], server: str) -> RemoteImage:
    """The image that `name` means: an alias, an alias and an architecture (`alpine/3.20/arm64`), a fingerprint, or the
    beginning of one. `architectures` are (LXD's name, the server's name), the wanted one first: of an alias, the newest
    image of that one is meant.

    Raises NotFoundError, InvalidRequestError (more than one fingerprint begins so).
    """
    every = list(found)
    ours = {theirs: lxd for lxd, theirs in reversed(architectures)}
    preferred = architectures[0][0]
    named = [offer for offer in every if name in offer.aliases and ours.get(offer.architecture) == preferred]
    if not named:
        path, _, architecture = name.rpartition("/")
        named = [offer for offer in every if path in offer.aliases and offer.architecture == architecture]
    if not named and _HEX.match(name):
        named = [offer for offer in every if offer.image.fingerprint.startswith(name)]
        if len({offer.image.fingerprint for offer in named}) > 1:
            raise InvalidRequestError(f'Partial fingerprint "{name}" matches more than one image of {server}')
    if not named:
        others = sorted({offer.architecture for offer in every if name in offer.aliases})
        raise NotFoundError(
            f'{server} has no image "{name:.200}"'
            + (f" for {preferred}, only for {', '.join(others)}" if others else "")
        )
    offer = min(named, key=lambda offer: ([-ord(character) for character in offer.serial], offer.rank))
    if offer.architecture not in ours:
        raise InvalidRequestError(
            f'Cannot use image "{name:.200}" of {server}: this host runs no {offer.architecture} programs'
        )
    return offer.image


def _version(server: str, product: Fields, serial: str, version: Fields) -> Iterator[Offer]:
    created = _day(serial)
    if created is None:
        return
    items = {item.text("ftype"): item for item in _children(version, "items")}
    architecture = product.text("arch")
    aliases = tuple(filter(None, (alias.strip() for alias in product.text("aliases").split(","))))
    for rank, (form, fingerprint, files) in enumerate(_forms(items)):
        image = RemoteImage(
            server=server,
            fingerprint=fingerprint,
            files=files,
            created_at=created,
            expires_at=_day(product.text("support_eol").replace("-", "")) or 0.0,
            properties=_properties(product, serial, version.text("label"), form),
            filename=files[0].path.rpartition("/")[2],
        )
        yield Offer(image, architecture, serial, aliases, rank)


def _forms(items: dict[str, Fields]) -> Iterator[tuple[str, str, tuple[RemoteFile, ...]]]:
    """(form, fingerprint, files), the best first."""
    for ftype in _METADATA:
        if ftype not in items:
            continue
        metadata = items[ftype]
        for form, names in _ROOTFS:
            fingerprint = next(filter(None, map(metadata.text, names)), "")
            if form in items and _SHA256.match(fingerprint):
                yield form, fingerprint, (_file(metadata), _file(items[form]))
        break
    for ftype in _COMBINED:
        if ftype in items:
            file = _file(items[ftype])
            yield "tar.gz", file.digest.hex, (file,)
            break


def _file(item: Fields) -> RemoteFile:
    path, size = item.text("path"), item.size("size")
    # It becomes a part of a URL, and of a log line.
    if not path or not path.isprintable() or "://" in path or not 0 < size <= _MAX_FILE_BYTES:
        raise RegistryError(f"Invalid item of an image server: {path!r:.200} of {size} bytes")
    return RemoteFile(path, Digest.parse(f"sha256:{item.text('sha256')}"), size)


def _properties(product: Fields, serial: str, label: str, form: str) -> dict[str, str]:
    system, release = product.text("os"), product.text("release")
    title = product.text("release_title") or release
    description = f"{system} {title} {product.text('arch')}"
    properties = {
        "os": system,
        "release": release,
        "version": product.text("version"),
        "architecture": product.text("arch"),
        "variant": product.text("variant"),
        "label": label,
        "serial": serial,
        "type": form,
        "description": description + (f" ({label})" if label else "") + f" ({serial})",
        **{f"requirements.{key}": value for key, value in product.mapping("requirements").items()},
    }
    return {key: value for key, value in properties.items() if value and value.isprintable()}


def _children(parent: Fields, name: str) -> Iterator[Fields]:
    """The objects of an object, without what is none."""
    children = parent.object(name)
    for key in children.names():
        try:
            yield children.object(key)
        except RegistryError:
            continue


def _day(text: str) -> float | None:
    """The day that a serial begins with, in seconds since the epoch."""
    if not re.match(r"[0-9]{8}", text, re.ASCII):
        return None
    try:
        return datetime(int(text[:4]), int(text[4:6]), int(text[6:8]), tzinfo=UTC).timestamp()
    except ValueError:
        return None
