from pathlib import Path

from lxdpy.services.networks import files


def test_name_servers_on_the_hosts_loopback_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 127.0.0.53\nnameserver 10.0.0.2\nnameserver ::1\nsearch example.org\n")
    assert files.resolv_conf((path,)) == "nameserver 10.0.0.2\nsearch example.org\n"


def test_the_first_file_with_a_usable_server_counts(tmp_path: Path) -> None:
    stub, real = tmp_path / "stub", tmp_path / "real"
    stub.write_text("nameserver 127.0.0.53\n")
    real.write_text("nameserver 192.0.2.1\n")
    assert files.resolv_conf((tmp_path / "missing", stub, real)) == "nameserver 192.0.2.1\n"
    assert "nameserver" not in files.resolv_conf((stub,)).split()


def test_hosts() -> None:
    assert "10.1.2.3\tweb\n" in files.hosts("web", "10.1.2.3")
    assert "127.0.1.1\tweb\n" in files.hosts("web", None)
