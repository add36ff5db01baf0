"""dnsmasq's configuration and host files, as text (dnsmasq(8))."""

import ipaddress

from lxdpy.drivers.base import ServedHost, ServedNetwork


def configuration(network: ServedNetwork, link_index: int, directory: str, user: str) -> str:
    """dnsmasq.conf of one network. It holds the interface's index, since dnsmasq's sockets are bound to that."""
    bridge = network.bridge
    lines = [
        f"# Written by lxdpy. Interface {link_index}.",
        f"user={user}",
        f"pid-file={directory}/dnsmasq.pid",
        f"dhcp-leasefile={directory}/dnsmasq.leases",
        "bind-interfaces",
        "except-interface=lo",
        f"interface={bridge.name}",
        # The host's /etc/hosts names what is on its loopback.
        "no-hosts",
        "strict-order",
        "no-ping",
        "quiet-dhcp",
        "quiet-dhcp6",
        "quiet-ra",
        "dhcp-rapid-commit",
        "dhcp-no-override",
        "dhcp-authoritative",
        # Who is not ours is not told that its address is wrong: the bridge may be one that the administrator lent us.
        "dhcp-ignore=tag:!known",
        # Windows asks for it for ever, and no network here has one.
        "dhcp-option=252",
    ]
    if bridge.ipv4_address:
        lines += _ipv4(network, directory)
    if bridge.ipv6_address:
        lines += _ipv6(network)
    if network.dns == "none":
        lines.append("dhcp-ignore-names")
    else:
        lines += [
            f"domain={network.domain}",
            f"local=/{network.domain}/",
            f"interface-name=_gateway.{network.domain},{bridge.name}",
        ]
        if network.dns == "managed":
            # What clients call themselves is theirs to believe.
            lines += [f"hostsdir={directory}/names", "dhcp-ignore-names"]
    return "\n".join(lines) + "\n"


def dhcp_host(network: ServedNetwork, host: ServedHost) -> str:
    """A line of the directory `dhcp`: whose address it is."""
    # Of a name with dots dnsmasq would serve the first part, which is another host's: such are in `names` only.
    name = f",{host.name}" if network.dns == "managed" and "." not in host.name else ""
    return f"{host.hwaddr},{host.address}{name}\n"


def host_name(network: ServedNetwork, host: ServedHost) -> str:
    """A line of the directory `names`: an address and what it is called."""
    return f"{host.address} {host.name}.{network.domain} {host.name}\n"


def _ipv4(network: ServedNetwork, directory: str) -> list[str]:
    interface = ipaddress.IPv4Interface(network.bridge.ipv4_address)
    lines = [f"listen-address={interface.ip}"]
    if network.ipv4_dhcp:
        # Static: only who is in the directory gets an address, so that none is given that a container has by its
        # configuration.
        lines += [
            f"dhcp-range={interface.network.network_address},static,{interface.netmask},{network.ipv4_expiry}",
            f"dhcp-hostsdir={directory}/dhcp",
        ]
        if network.search:
            lines.append(f"dhcp-option=option:domain-search,{network.search}")
    return lines


def _ipv6(network: ServedNetwork) -> list[str]:
    interface = ipaddress.IPv6Interface(network.bridge.ipv6_address)
    mode = "ra-stateless,ra-names" if network.ipv6_dhcp else "ra-only"
    lines = [
        f"listen-address={interface.ip}",
        "enable-ra",
        f"dhcp-range=::,constructor:{network.bridge.name},{mode},{interface.network.prefixlen}",
    ]
    if network.search and network.ipv6_dhcp:
        lines.append(f"dhcp-option=option6:domain-search,{network.search}")
    return lines
