"""What a container without a DHCP client is told of its network: resolv.conf, hosts, hostname."""

import ipaddress
from collections.abc import Iterable
from pathlib import Path

# systemd-resolved's stub listens on the host's loopback; its upstream servers are in this file.
_RESOLV_CONFS = (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))


def resolv_conf(candidates: tuple[Path, ...] = _RESOLV_CONFS) -> str:
    """The host's resolver configuration, without name servers that only the host can reach."""
    for path in candidates:
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        kept = [line for line in lines if not _is_host_only(line)]
        if any(line.split()[:1] == ["nameserver"] for line in kept):
            return "\n".join(kept) + "\n"
    return "# The host has no name server that a container could reach.\n"


def resolv_conf_of(address: str, domains: Iterable[str]) -> str:
    """A resolver configuration that asks one name server alone: another might not know the names that it knows."""
    return f"search {' '.join(domains)}\nnameserver {address}\n"


def hosts(name: str, address: str | None) -> str:
    """/etc/hosts with the container's own name."""
    own = f"{address}\t{name}\n" if address else f"127.0.1.1\t{name}\n"
    return f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{own}"


def _is_host_only(line: str) -> bool:
    words = line.split()
    if len(words) < 2 or words[0] != "nameserver":
        return False
    try:
        return ipaddress.ip_address(words[1].partition("%")[0]).is_loopback
    except ValueError:
        return True
