"""Chain ids follow the spec's recurrence."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from lxdpy.oci.chain_id import chain_ids
from lxdpy.oci.digest import Digest

digests = st.lists(st.binary(max_size=4).map(Digest.of), max_size=12)


def test_two_layers() -> None:
    base, top = Digest.of(b"base"), Digest.of(b"top")
    stacked = hashlib.sha256(f"sha256:{base.hex} sha256:{top.hex}".encode()).hexdigest()
    assert chain_ids([base, top]) == (base, Digest("sha256", stacked))


@given(digests, digests)
def test_what_lies_above_does_not_count(lower: list[Digest], upper: list[Digest]) -> None:
    assert chain_ids(lower + upper)[: len(lower)] == chain_ids(lower)


@given(digests)
def test_one_id_for_each_layer(diff_ids: list[Digest]) -> None:
    chain = chain_ids(diff_ids)
    assert len(chain) == len(diff_ids)
    assert chain[:1] == tuple(diff_ids[:1])
    assert len(set(chain)) == len(chain)
