"""References are normalised as docker does, and refused where docker refuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdpy.errors import InvalidRequestError
from lxdpy.oci.reference import Reference

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
        ("library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("org/app:1", "docker.io/org/app:1", "org/app:1"),
        ("index.docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("docker.io/library/a/b:1", "docker.io/library/a/b:1", "library/a/b:1"),
        ("docker.io/localhost/a:1", "docker.io/localhost/a:1", "docker.io/localhost/a:1"),
        ("docker.io/a.b/c:1", "docker.io/a.b/c:1", "docker.io/a.b/c:1"),
        ("ghcr.io/org/app:tag", "ghcr.io/org/app:tag", "ghcr.io/org/app:tag"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest"),
        ("[::1]:5000/app:1", "[::1]:5000/app:1", "[::1]:5000/app:1"),
        ("Registry/app", "Registry/app:latest", "Registry/app:latest"),
        ("GHCR.io/app", "ghcr.io/app:latest", "ghcr.io/app:latest"),
        (f"alpine@{DIGEST}", f"docker.io/library/alpine@{DIGEST}", f"alpine@{DIGEST}"),
        (f"alpine:3.20@{DIGEST}", f"docker.io/library/alpine:3.20@{DIGEST}", f"alpine:3.20@{DIGEST}"),
        (f"library/{HEX}@{DIGEST}", f"docker.io/library/{HEX}@{DIGEST}", f"library/{HEX}@{DIGEST}"),
    ],
)
def test_normalisation(text: str, canonical: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == canonical
    assert reference.familiar == familiar
    assert Reference.parse(canonical) == reference
    assert Reference.parse(familiar) == reference


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "repository name"),
        (HEX, "image id"),
        ("alpine:", "tag"),
        ("alpine:-x", "tag"),
        ("alpine:" + "x" * 129, "tag"),
        ("org/Alpine", "lower case"),
        ("https://ghcr.io/org/app", "scheme"),
        ("a..b", "repository name"),
        ("a/../b", "repository name"),
        ("-a", "repository name"),
        ("ghcr.io/", "repository name"),
        ("ghcr.io:99999/app", "host name"),
        ("gh_cr.io/app", "host name"),
        ("al\npine", "repository name"),
        ("alpine\n", "repository name"),
        ("a" * 250, "255"),
        ("a" * 2000, "1024"),
        ("alpine@sha256:abc", "digest"),
        (f"alpine@{DIGEST}x", "digest"),
        ("alpine@sha256:../../etc", "digest"),
    ],
)
def test_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidRequestError, match=why):
        Reference.parse(text)


def test_names_without_a_host_belong_to_the_default_registry() -> None:
    assert str(Reference.parse("alpine", "registry.example:5000")) == "registry.example:5000/alpine:latest"
    assert str(Reference.parse("ghcr.io/a/b", "registry.example")) == "ghcr.io/a/b:latest"
    assert str(Reference.parse("alpine", "index.docker.io")) == "docker.io/library/alpine:latest"


def test_a_digest_wins_over_the_tag() -> None:
    reference = Reference.parse(f"alpine:3.20@{DIGEST}")
    assert reference.tag == "3.20"
    assert reference.target == DIGEST
    assert Reference.parse(f"alpine@{DIGEST}").tag is None


component = st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}", fullmatch=True)
host = st.sampled_from(["", "docker.io/", "index.docker.io/", "ghcr.io/", "localhost/", "localhost:5000/", "[::1]:1/"])
tag = st.one_of(st.just(""), st.from_regex(r":[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True))
digest = st.sampled_from(["", f"@{DIGEST}"])


@given(host, st.lists(component, min_size=1, max_size=4), tag, digest)
def test_both_spellings_lead_back(host: str, components: list[str], tag: str, digest: str) -> None:
    try:
        reference = Reference.parse(f"{host}{'/'.join(components)}{tag}{digest}")
    except InvalidRequestError:
        # A first component such as `a_b.c` reads as a host, and is none.
        assert not host
        return
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar) == reference


@given(st.text(max_size=80))
def test_any_text_is_a_reference_or_an_invalid_request(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidRequestError:
        return
    assert str(reference).isascii()
    assert ".." not in str(reference)
