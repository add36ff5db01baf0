"""Manifests, indexes and configs: what is read, what is tolerated, what is refused."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdpy.errors import DigestMismatchError, LxdpyError, NotFoundError, RegistryError, UnsupportedError
from lxdpy.oci import media_types as types
from lxdpy.oci.digest import Digest
from lxdpy.oci.document import MAX_DOCUMENT_BYTES
from lxdpy.oci.image_config import ImageConfig
from lxdpy.oci.index import MAX_ENTRIES, Index
from lxdpy.oci.manifest import Manifest
from lxdpy.oci.platform import Platform

AMD64 = Platform("linux", "amd64")


def _encode(document: object) -> bytes:
    return json.dumps(document).encode()


def _descriptor(content: bytes, media_type: str, **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content), **more}


def _manifest(**changes: object) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": types.OCI_MANIFEST,
        "config": _descriptor(b"{}", types.OCI_CONFIG),
        "layers": [_descriptor(b"layer", f"{types.OCI_LAYER}+gzip")],
        **changes,
    }


def _entry(name: str, platform: str | None, media_type: str = types.OCI_MANIFEST, **more: object) -> dict[str, object]:
    entry = _descriptor(name.encode(), media_type, **more)
    if platform is not None:
        os, architecture, *variant = platform.split("/")
        entry["platform"] = {"os": os, "architecture": architecture, "variant": "".join(variant)}
    return entry


def _index(*entries: object, **changes: object) -> bytes:
    return _encode({"schemaVersion": 2, "mediaType": types.OCI_INDEX, "manifests": list(entries), **changes})


def _config(**changes: object) -> bytes:
    rootfs = {"type": "layers", "diff_ids": [str(Digest.of(b"tar"))]}
    return _encode({"os": "linux", "architecture": "amd64", "rootfs": rootfs, **changes})


# ---------------------------------------------------------------- manifests


def test_manifest() -> None:
    manifest = Manifest.parse(_encode(_manifest()), f"{types.OCI_MANIFEST}; charset=utf-8")
    assert manifest.media_type == types.OCI_MANIFEST
    assert manifest.config.size == 2
    assert [layer.digest for layer in manifest.layers] == [Digest.of(b"layer")]


def test_docker_manifest() -> None:
    document = _manifest(mediaType=types.DOCKER_MANIFEST, config=_descriptor(b"{}", types.DOCKER_CONFIG))
    assert Manifest.parse(_encode(document), None).media_type == types.DOCKER_MANIFEST


def test_a_manifest_that_names_no_type_is_what_it_was_announced_as() -> None:
    document = _encode(_manifest(mediaType=None))
    assert Manifest.parse(document, types.DOCKER_MANIFEST).media_type == types.DOCKER_MANIFEST
    assert Manifest.parse(document, "text/plain").media_type == types.OCI_MANIFEST
    assert Manifest.parse(document, None).media_type == types.OCI_MANIFEST


def test_inline_config() -> None:
    inline = base64.b64encode(b"{}").decode()
    document = _manifest(config=_descriptor(b"{}", types.OCI_CONFIG, data=inline))
    assert Manifest.parse(_encode(document), None).config.data == b"{}"
    document["config"]["data"] = base64.b64encode(b"[]").decode()
    with pytest.raises(DigestMismatchError, match="another digest"):
        Manifest.parse(_encode(document), None)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (_manifest(manifests=[]), "both manifests and layers"),
        (_manifest(mediaType=types.OCI_INDEX, manifests=[]), "both manifests and layers"),
        (_manifest(mediaType=types.DOCKER_MANIFEST), "its descriptor"),
        (_manifest(mediaType="application/vnd.example"), "its descriptor"),
        (_manifest(config=None), "digest"),
        (_manifest(layers={}), "list of objects"),
        (_manifest(layers=[{"digest": "sha256:abc", "size": 1}]), "Invalid digest"),
        (_manifest(layers=[{**_descriptor(b"x", "x"), "size": -1}]), "number of bytes"),
        (_manifest(layers=[{**_descriptor(b"x", "x"), "size": 1.5}]), "number of bytes"),
        (_manifest(layers=[{**_descriptor(b"x", "x"), "size": True}]), "number of bytes"),
        (_manifest(layers=[{**_descriptor(b"x", "x"), "size": 1 << 63}]), "number of bytes"),
        ({}, "digest"),
        ([], "no JSON object"),
    ],
)
def test_malformed_manifests(document: object, why: str) -> None:
    with pytest.raises(RegistryError, match=why):
        Manifest.parse(_encode(document), types.OCI_MANIFEST)


@pytest.mark.parametrize("document", [{}, {"mediaType": "application/vnd.example"}])
def test_what_is_nothing_we_know(document: object) -> None:
    with pytest.raises(RegistryError, match="neither a manifest nor an index"):
        Manifest.parse(_encode(document), "text/html")


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"schemaVersion": 1, "fsLayers": [], "history": []}, "schema 1"),
        (_manifest(config=_descriptor(b"{}", "application/vnd.cncf.helm.config.v1+json")), "no container image"),
        (_manifest(layers=[_descriptor(b"x", f"{types.OCI_LAYER}+gzip+encrypted")]), "encrypted"),
    ],
)
def test_manifests_that_are_not_for_us(document: object, why: str) -> None:
    with pytest.raises(UnsupportedError, match=why):
        Manifest.parse(_encode(document), None)


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 200_000, b'{"a":' * 200_000, b"<html>", b"\xff\xfe"])
def test_what_is_no_json(data: bytes) -> None:
    for parse in (lambda: Manifest.parse(data, None), lambda: Index.parse(data, None), lambda: ImageConfig.parse(data)):
        with pytest.raises(RegistryError, match="Cannot read"):
            parse()


def test_a_document_over_the_limit() -> None:
    with pytest.raises(RegistryError, match="more than"):
        Manifest.parse(b" " * (MAX_DOCUMENT_BYTES + 1), None)


# ------------------------------------------------------------------ indexes


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], 1),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm64"], 1),
        ("linux/arm64/v8", ["linux/arm64", "linux/arm64/v8"], 0),
        ("linux/amd64", ["linux/amd64/v3", "linux/amd64"], 1),
        ("linux/amd64", ["windows/amd64", "linux/amd64"], 1),
        ("linux/amd64", [None], 0),
        ("linux/amd64", [None, "linux/amd64"], 1),
    ],
)
def test_selection(wanted: str, offered: list[str | None], chosen: int) -> None:
    index = Index.parse(_index(*(_entry(str(i), platform) for i, platform in enumerate(offered))), types.OCI_INDEX)
    assert index.select(Platform(*wanted.split("/"))).digest == Digest.of(str(chosen).encode())


def test_attestations_and_artifacts_are_no_offer() -> None:
    attestation = {"vnd.docker.reference.type": "attestation-manifest"}
    data = _index(
        _entry("a", "unknown/unknown"),
        _entry("b", "linux/amd64", annotations=attestation),
        _entry("c", "linux/amd64", media_type="application/vnd.example"),
        _entry("d", None),
    )
    assert Index.parse(data, None).select(AMD64).digest == Digest.of(b"d")


def test_what_is_offered_is_listed() -> None:
    index = Index.parse(_index(_entry("a", "linux/arm64/v8"), _entry("b", "windows/amd64")), None)
    with pytest.raises(NotFoundError, match=r"linux/s390x; offered: linux/arm64/v8, windows/amd64"):
        index.select(Platform("linux", "s390x"))
    with pytest.raises(NotFoundError, match="offered: nothing"):
        Index.parse(_index(), None).select(AMD64)


def test_a_nested_index_is_looked_into_last() -> None:
    nested = _entry("nested", None, media_type=types.OCI_INDEX)
    index = Index.parse(_index(nested, _entry("a", "linux/amd64")), None)
    assert index.select(AMD64).digest == Digest.of(b"a")
    assert index.select(Platform("linux", "arm64")).digest == Digest.of(b"nested")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (_index(layers=[]), "both manifests and layers"),
        (_index(*[_entry("a", None)] * (MAX_ENTRIES + 1)), "more than"),
        (_encode(_manifest()), "it is a manifest"),
    ],
)
def test_malformed_indexes(data: bytes, why: str) -> None:
    with pytest.raises(RegistryError, match=why):
        Index.parse(data, None)


# ------------------------------------------------------------------ configs


def test_config() -> None:
    data = _config(
        config={
            "Env": ["PATH=/bin", "ODD=a\nb\0c"],
            "Entrypoint": "/init",
            "Cmd": ["sh", "-c", "x"],
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
            "Volumes": {"/data": {}},
            "Labels": {"a": "b\n", "n": None},
            "StopSignal": "SIGQUIT",
        },
        history=[{"created_by": "COPY", "empty_layer": True}, {"created_by": "RUN"}],
    )
    config = ImageConfig.parse(data, 1)
    assert config.env == ("PATH=/bin", "ODD=a\nb\0c")
    assert config.entrypoint == ("/init",)
    assert config.cmd == ("sh", "-c", "x")
    assert config.exposed_ports == ("53/udp", "80/tcp")
    assert config.volumes == ("/data",)
    assert config.labels == {"a": "b\n", "n": ""}
    assert config.stop_signal == "SIGQUIT"
    assert [step.empty_layer for step in config.history] == [True, False]


def test_null_is_absent() -> None:
    null = dict.fromkeys(("Env", "Entrypoint", "Cmd", "ExposedPorts", "Volumes", "Labels", "User", "WorkingDir"))
    assert ImageConfig.parse(_config(config=null, history=None)) == ImageConfig.parse(_config())
    assert ImageConfig.parse(_config(config=None)) == ImageConfig.parse(_config())


def test_lone_surrogates_are_replaced() -> None:
    config = ImageConfig.parse(_config().replace(b'"linux"', b'"li\\ud800nux"'))
    assert config.os == "li�nux"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"rootfs": None}, "rootfs.type"),
        ({"rootfs": {"type": "other", "diff_ids": []}}, "rootfs.type"),
        ({"rootfs": {"type": "layers", "diff_ids": ["sha256:x"]}}, "Invalid digest"),
        ({"rootfs": {"type": "layers", "diff_ids": []}}, "0 diff_ids, and the manifest 1 layers"),
        ({"config": {"Env": [1]}}, "Env must be a list of strings"),
        ({"config": {"Env": "A=1"}}, "Env must be a list of strings"),
        ({"config": {"Labels": {"a": 1}}}, "Labels must be an object of strings"),
        ({"config": {"ExposedPorts": ["80"]}}, "ExposedPorts must be an object"),
        ({"config": []}, "config must be an object"),
        ({"history": [1]}, "history must be a list of objects"),
        ({"os": 1}, "os must be a string"),
    ],
)
def test_malformed_configs(changes: dict[str, object], why: str) -> None:
    with pytest.raises(RegistryError, match=why):
        ImageConfig.parse(_config(**changes), 1)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["mediaType", "manifests", "layers", "config", "digest", "size", "data", "platform", "rootfs"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(json_values)
def test_any_document_is_read_or_refused(value: object) -> None:
    data = _encode(value)
    for parse in (lambda: Manifest.parse(data, None), lambda: Index.parse(data, None), lambda: ImageConfig.parse(data)):
        try:
            parse()
        except LxdpyError:
            pass
