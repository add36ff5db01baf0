from pathlib import Path

import pytest

from lxdpy import config
from lxdpy.errors import InvalidRequestError


def load(tmp_path: Path, text: str) -> config.Config:
    path = tmp_path / "lxdpy.toml"
    path.write_text(text)
    return config.load(tmp_path, path)


def test_everything_has_a_default(tmp_path: Path) -> None:
    loaded = load(tmp_path, "")
    assert loaded == config.Config(state_dir=tmp_path)
    assert loaded.socket_path == tmp_path / "unix.socket"


def test_sections(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        """
        [workers]
        downloads = 3
        [registry."docker.io"]
        mirrors = ["m.example:5000"]
        [registry."m.example:5000"]
        plain_http = true
        [shutdown]
        timeout_s = 5
        """,
    )
    assert loaded.workers.downloads == 3
    assert loaded.registries["docker.io"].mirrors == ("m.example:5000",)
    assert loaded.registries["m.example:5000"].plain_http
    assert loaded.shutdown.timeout_s == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[workers", "Cannot read"),
        ("[nonsense]", "Unknown section"),
        ("[workers]\nthreads = 1", 'Unknown key "threads"'),
        ("[workers]\nunpacks = 0", "Invalid value 0"),
        ("[workers]\nunpacks = true", "Invalid value True"),
        ('[registry."a"]\nplain_http = 1', "Invalid value 1"),
        ('[registry."a"]\nmirrors = "b"', "Invalid value 'b'"),
        ("workers = 1", "must be a table"),
        ('[network]\nipv4_address = "10.0.0.0/24"', "network.ipv4_address"),
        ('[network]\nipv4_address = "x"', "network.ipv4_address"),
        ('[network]\nbridge = "a-name-that-is-too-long"', "network.bridge"),
    ],
)
def test_what_can_not_be_right_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        load(tmp_path, text)


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="Cannot read"):
        config.load(tmp_path, tmp_path / "none.toml")
