"""Chain ids: the digest of a stack of layers (OCI image-spec, config.md#layer-chainid).

chain_id(L0)    = diff_id(L0)
chain_id(L0..n) = sha256(chain_id(L0..n-1) + " " + diff_id(Ln))
"""

from collections.abc import Iterable

from lxdpy.oci.digest import Digest


def chain_ids(diff_ids: Iterable[Digest]) -> tuple[Digest, ...]:
    """The chain id of each layer with all below it; `diff_ids` come base first."""
    chain: list[Digest] = []
    for diff_id in diff_ids:
        chain.append(Digest.of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return tuple(chain)
