"""Id maps as files."""

from pathlib import Path

import pytest

from lxdpy.linux.idmap import host_id


@pytest.mark.parametrize(("inside", "outside"), [(0, 1000), (9, 1009), (10, None), (20, 5), (21, None)])
def test_host_id(tmp_path: Path, inside: int, outside: int | None) -> None:
    (tmp_path / "uid_map").write_text("         0       1000         10\n        20          5          1\n")
    assert host_id(str(tmp_path / "uid_map"), inside) == outside
