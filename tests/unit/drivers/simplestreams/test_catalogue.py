"""What an image server's documents mean: which image an alias or a fingerprint is."""

from collections.abc import Mapping
from typing import Any

import pytest

from lxdpy.drivers.base import RemoteImage
from lxdpy.drivers.simplestreams.catalogue import choose, offers, product_files
from lxdpy.drivers.simplestreams.messages import decode_answer, encode_error, encode_image
from lxdpy.errors import InvalidRequestError, NotFoundError, RegistryError
from lxdpy.oci.document import Fields

SERVER = "https://images.example"
HOST = (("x86_64", "amd64"), ("i686", "i386"))


def sha(letter: str) -> str:
    return letter * 64


def item(ftype: str, letter: str, **changes: object) -> dict[str, object]:
    return {"ftype": ftype, "path": f"images/{letter}/{ftype}", "size": 10, "sha256": sha(letter), **changes}


def split(serial: str, letter: str, **items: object) -> dict[str, Any]:
    """A version whose squashfs form has a fingerprint of `letter`s, and whose tarball form one of the next letter's."""
    following = chr(ord(letter) + 1)
    metadata = item(
        "lxd.tar.xz",
        "f",
        combined_squashfs_sha256=sha(letter),
        combined_rootxz_sha256=sha(following),
        combined_sha256="",
    )
    files = {
        "lxd.tar.xz": metadata,
        "squashfs": item("squashfs", letter),
        "root.tar.xz": item("root.tar.xz", following),
        "disk.qcow2": item("disk-kvm.img", "9"),
    }
    return {serial: {"items": {**files, **items}}}


def product(versions: Mapping[str, object], **changes: object) -> dict[str, object]:
    return {
        "aliases": "alpine/3.20,alpine/3.20/default",
        "arch": "amd64",
        "os": "Alpine",
        "release": "3.20",
        "variant": "default",
        "requirements": {"secureboot": "false"},
        "versions": versions,
        **changes,
    }


def find(name: str, products: Mapping[str, object], architectures: tuple[tuple[str, str], ...] = HOST) -> RemoteImage:
    document = Fields({"datatype": "image-downloads", "products": products}, "products")
    return choose(offers(document, SERVER), name, architectures=architectures, server=SERVER)


NEW = {**split("20260102_07:42", "c"), **split("20260101_07:42", "a")}


def test_index() -> None:
    index = {
        "images": {"datatype": "image-downloads", "format": "products:1.0", "path": "streams/v1/images.json"},
        "aws": {"datatype": "image-ids", "format": "products:1.0", "path": "streams/v1/aws.json"},
        "other": {"datatype": "image-downloads", "format": "products:2.0", "path": "streams/v2/images.json"},
        "nonsense": 3,
    }
    assert product_files(Fields({"index": index}, "index")) == ("streams/v1/images.json",)


@pytest.mark.parametrize("name", ["alpine/3.20", "alpine/3.20/default", "alpine/3.20/amd64"])
def test_an_alias_is_the_newest_version_in_its_best_form(name: str) -> None:
    image = find(name, {"one": product(NEW)})
    assert image.fingerprint == sha("c")
    assert [file.path for file in image.files] == ["images/f/lxd.tar.xz", "images/c/squashfs"]
    assert image.properties == {
        "os": "Alpine",
        "release": "3.20",
        "architecture": "amd64",
        "variant": "default",
        "serial": "20260102_07:42",
        "type": "squashfs",
        "description": "Alpine 3.20 amd64 (20260102_07:42)",
        "requirements.secureboot": "false",
    }
    assert image.created_at == 1_767_312_000
    assert image.filename == "lxd.tar.xz"


def test_the_tarball_where_there_is_no_squashfs() -> None:
    version = split("20260102", "c")
    del version["20260102"]["items"]["squashfs"]
    image = find("alpine/3.20", {"one": product(version)})
    assert (image.fingerprint, image.properties["type"]) == (sha("d"), "root.tar.xz")


def test_a_version_without_a_container_s_files_is_not_there() -> None:
    version = split("20260103", "e")
    for form in ("squashfs", "root.tar.xz"):
        del version["20260103"]["items"][form]
    assert find("alpine/3.20", {"one": product({**NEW, **version})}).fingerprint == sha("c")


def test_a_unified_image() -> None:
    versions = {"20260102": {"items": {"lxd_combined.tar.gz": item("lxd_combined.tar.gz", "b")}}}
    image = find("alpine/3.20", {"one": product(versions)})
    assert image.fingerprint == sha("b")
    assert len(image.files) == 1


def test_incus_metadata() -> None:
    versions = split("20260102", "c")
    metadata = versions["20260102"]["items"].pop("lxd.tar.xz")
    versions["20260102"]["items"]["incus.tar.xz"] = {**metadata, "ftype": "incus.tar.xz"}
    assert find("alpine/3.20", {"one": product(versions)}).fingerprint == sha("c")


def test_fingerprints() -> None:
    products = {"one": product(NEW)}
    assert find(sha("b"), products).properties["type"] == "root.tar.xz"
    assert find("aaaaaa", products).properties["serial"] == "20260101_07:42"
    assert find(sha("d")[:12], products).fingerprint == sha("d")
    versions = split("20260102", "c")
    versions["20260102"]["items"]["lxd.tar.xz"]["combined_rootxz_sha256"] = "c" * 63 + "d"
    with pytest.raises(InvalidRequestError, match="more than one"):
        find("cccccc", {"one": product(versions)})


def test_architectures() -> None:
    products = {
        "arm": product(split("20260103", "a"), arch="arm64"),
        "old": product(split("20260104", "c"), arch="i386"),
        "own": product(split("20260102", "e"), arch="amd64"),
    }
    assert find("alpine/3.20", products).fingerprint == sha("e")
    assert find("alpine/3.20/i386", products).fingerprint == sha("c")
    assert find("alpine/3.20", products, HOST[::-1]).fingerprint == sha("c")
    for name in ("alpine/3.20/arm64", sha("a")):
        with pytest.raises(InvalidRequestError, match="runs no arm64 programs"):
            find(name, products)
    with pytest.raises(NotFoundError, match="for x86_64, only for arm64"):
        find("alpine/3.20", {"arm": products["arm"]})


@pytest.mark.parametrize("name", ["alpine", "alpine/3.21", "alpine/3.20/cloud", "", "ff", sha("0")])
def test_what_is_not_there(name: str) -> None:
    with pytest.raises(NotFoundError, match=r"images\.example has no image"):
        find(name, {"one": product(NEW)})


@pytest.mark.parametrize(
    "change",
    [
        {"size": "10"},
        {"size": 0},
        {"size": 1 << 50},
        {"size": True},
        {"sha256": "zz"},
        {"sha256": None},
        {"path": ""},
        {"path": "http://elsewhere/x"},
        {"path": "images/\n"},
        {"path": 3},
    ],
)
def test_what_is_broken_is_not_there_and_hurts_nothing_else(change: dict[str, object]) -> None:
    broken = split("20260105", "e")
    for form in ("lxd.tar.xz", "squashfs", "root.tar.xz"):
        broken["20260105"]["items"][form].update(change)
    products = {
        "broken": product({**broken, **NEW}),
        "nonsense": [],
    }
    assert find("alpine/3.20", products).fingerprint == sha("c")


def test_serials_without_a_day_are_not_there() -> None:
    with pytest.raises(NotFoundError):
        find("alpine/3.20", {"one": product({**split("latest", "a"), **split("20261301", "c"), **split("2026", "e")})})


def test_a_release_that_ends() -> None:
    assert find("alpine/3.20", {"one": product(NEW, support_eol="2027-04-21")}).expires_at == 1_808_265_600


def test_messages() -> None:
    image = find("alpine/3.20", {"one": product(NEW)})
    assert decode_answer(encode_image(image)) == image
    for error in (NotFoundError("no"), RegistryError("no"), InvalidRequestError("no")):
        with pytest.raises(type(error), match="no"):
            decode_answer(encode_error(error))
    with pytest.raises(ValueError):
        decode_answer(b'{"error": "SystemExit", "message": ""}')
