from lxdpy.drivers.network import dhcp_release
from lxdpy.drivers.network.dhcp_release import Lease

LEASES = """1795770951 00:16:3e:00:00:01 10.1.2.3 web 01:00:16:3e:00:00:01
1795770952 00:16:3e:00:00:02 10.1.2.4 * *
1795770952 00:16:3e:00:00
duid 00:01:00:01
1795770952 6 fd42::9 web 00:01
"""


def test_lease_file() -> None:
    assert dhcp_release.parse(LEASES) == [
        Lease("00:16:3e:00:00:01", "10.1.2.3", bytes.fromhex("0100163e000001")),
        Lease("00:16:3e:00:00:02", "10.1.2.4", b""),
    ]
    assert dhcp_release.parse("") == []


def test_packet() -> None:
    data = dhcp_release.packet(Lease("00:16:3e:00:00:01", "10.1.2.3", b"\x01\x02"), "10.1.2.1")
    assert data[:4] == bytes((1, 1, 6, 0))
    assert data[12:16] == bytes((10, 1, 2, 3))
    assert data[28:34] == bytes.fromhex("00163e000001")
    options = bytes((0x63, 0x82, 0x53, 0x63, 53, 1, 7, 54, 4, 10, 1, 2, 1, 61, 2, 1, 2, 255))
    assert data[236:] == options
    assert bytes((61,)) not in dhcp_release.packet(Lease("00:16:3e:00:00:01", "10.1.2.3", b""), "10.1.2.1")[240:]
