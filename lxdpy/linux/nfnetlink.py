"""What nftables holds, asked of the kernel directly (NETLINK_NETFILTER): cheap enough for every daemon start."""

import errno
import struct

from lxdpy.linux.netlink import NLM_F_DUMP, NetlinkSocket, attributes, pack_attribute

NFPROTO_INET = 1
NFPROTO_IPV4 = 2
NFPROTO_IPV6 = 10
NF_DROP = 0
NF_ACCEPT = 1

_NETLINK_NETFILTER = 12
_NFNL_SUBSYS_NFTABLES = 10
_NFT_MSG_GETCHAIN = _NFNL_SUBSYS_NFTABLES << 8 | 4
_NFT_MSG_GETRULE = _NFNL_SUBSYS_NFTABLES << 8 | 7

_NFTA_CHAIN_TABLE = 1
_NFTA_CHAIN_NAME = 3
_NFTA_CHAIN_POLICY = 5
_NFTA_RULE_TABLE = 1
_NFTA_RULE_CHAIN = 2
_NFTA_RULE_USERDATA = 7
# libnftnl's private TLV in the user data: u8 type, u8 length, value.
_NFTNL_UDATA_RULE_COMMENT = 0

_nfgenmsg_size = 4
_policy = struct.Struct("!I")


def netfilter_socket() -> NetlinkSocket:
    """A socket that speaks with the calling thread's network namespace."""
    return NetlinkSocket(_NETLINK_NETFILTER)


def has_chain(netfilter: NetlinkSocket, family: int, table: str, chain: str) -> bool:
    """Whether a chain exists."""
    return _chain(netfilter, family, table, chain) is not None


def chain_policy(netfilter: NetlinkSocket, family: int, table: str, chain: str) -> int | None:
    """NF_ACCEPT or NF_DROP; None when there is no such chain or it has no policy."""
    body = _chain(netfilter, family, table, chain) or bytes(_nfgenmsg_size)
    value = attributes(body, _nfgenmsg_size, frozenset({_NFTA_CHAIN_POLICY})).get(_NFTA_CHAIN_POLICY)
    return None if value is None else int(_policy.unpack(value)[0])


def rule_comments(netfilter: NetlinkSocket, family: int, table: str, chain: str) -> list[str]:
    """The comments of a chain's rules."""
    body = _nfgenmsg(family) + _text(_NFTA_RULE_TABLE, table) + _text(_NFTA_RULE_CHAIN, chain)
    rules = netfilter.request(_NFT_MSG_GETRULE, body, flags=NLM_F_DUMP, subject=f"{table} {chain}")
    wanted = frozenset({_NFTA_RULE_USERDATA})
    found = (attributes(rule, _nfgenmsg_size, wanted).get(_NFTA_RULE_USERDATA) for rule in rules)
    return [comment for data in found if data and (comment := _comment(data)) is not None]


def _chain(netfilter: NetlinkSocket, family: int, table: str, chain: str) -> bytes | None:
    body = _nfgenmsg(family) + _text(_NFTA_CHAIN_TABLE, table) + _text(_NFTA_CHAIN_NAME, chain)
    try:
        return netfilter.request(_NFT_MSG_GETCHAIN, body, flags=0, subject=f"{table} {chain}")[0]
    except OSError as exc:
        if exc.errno == errno.ENOENT:
            return None
        raise


def _comment(data: bytes) -> str | None:
    offset = 0
    while offset + 2 <= len(data):
        kind, length = data[offset], data[offset + 1]
        if kind == _NFTNL_UDATA_RULE_COMMENT:
            return data[offset + 2 : offset + 2 + length].rstrip(b"\0").decode(errors="replace")
        offset += 2 + length
    return None


def _nfgenmsg(family: int) -> bytes:
    return bytes((family, 0, 0, 0))


def _text(kind: int, value: str) -> bytes:
    return pack_attribute(kind, value.encode() + b"\0")
