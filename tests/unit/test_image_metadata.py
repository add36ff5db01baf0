import pytest

from lxdpy import image_metadata
from lxdpy.errors import InvalidRequestError
from lxdpy.image_metadata import ImageMetadata, Template

TEXT = b"""\
architecture: x86_64
creation_date: 1458040200
properties:
  release: 20.10
  serial: 0123
  empty:
templates:
  /etc/hostname:
    when: [create, copy]
    template: hostname.tpl
    create_only: true
    properties: {default: yes}
"""


def test_scalars_are_the_text_they_are() -> None:
    metadata = image_metadata.parse(TEXT)
    assert metadata == ImageMetadata(
        architecture="x86_64",
        creation_date=1458040200,
        expiry_date=0,
        properties={"release": "20.10", "serial": "0123", "empty": ""},
        templates={"/etc/hostname": Template(("create", "copy"), "hostname.tpl", True, {"default": "yes"})},
    )
    assert image_metadata.parse(image_metadata.dump(metadata)) == metadata


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "architecture"),
        (b"just text", "no mapping"),
        (b"architecture: pdp11\ncreation_date: 1", "unknown architecture"),
        (b"architecture: x86_64", "creation_date"),
        (b"architecture: x86_64\ncreation_date: soon", "no time"),
        (b"architecture: x86_64\ncreation_date: 99999999999999999", "no time"),
        (b"architecture: x86_64\ncreation_date: 1\nproperties: [a]", "no mapping"),
        (b"architecture: x86_64\ncreation_date: 1\nproperties: {a: [b]}", "no text"),
        (b'architecture: x86_64\ncreation_date: 1\nproperties: {"a\\nb": c}', "line break"),
        (b"architecture: x86_64\ncreation_date: 1\ntemplates: {/x: {template: ../../etc/shadow}}", "no name"),
        (b"architecture: x86_64\ncreation_date: 1\ntemplates: {/x: {template: y, when: z}}", "no list"),
        (b"a: [", "Invalid metadata.yaml"),
        (b"!!python/object/apply:os.system [id]", "no mapping"),
        (b"[" * 100_000, "nested"),
        (b"a: &a [*a]", "recursive"),
        (b"architecture: [a]", "no text"),
        (
            b"a: &a [x,x,x,x,x,x,x,x,x]\n"
            + b"".join(b"%c: &%c [%s]\n" % (c, c, b",".join([b"*%c" % (c - 1)] * 9)) for c in range(ord("b"), ord("m")))
            + b"architecture: x86_64\ncreation_date: *l",
            "no time",
        ),
        (b"\xff\xfe\xff", "Invalid metadata.yaml"),
        (b"#" * (image_metadata.MAX_BYTES + 1), "bytes"),
    ],
)
def test_nonsense_is_refused(text: bytes, why: str) -> None:
    with pytest.raises(InvalidRequestError, match=why):
        image_metadata.parse(text)


def test_architectures_have_the_names_that_clients_read() -> None:
    assert image_metadata.canonical_architecture("amd64") == "x86_64"
    assert image_metadata.canonical_architecture("aarch64") == "aarch64"
