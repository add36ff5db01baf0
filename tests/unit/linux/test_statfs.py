import os
from pathlib import Path

from lxdpy.linux.statfs import file_system_type

PROC_SUPER_MAGIC = 0x9FA0


def test_file_system_type(tmp_path: Path) -> None:
    for path, is_proc in (("/proc/self/status", True), (str(tmp_path), False)):
        fd = os.open(path, os.O_PATH)
        assert (file_system_type(fd) == PROC_SUPER_MAGIC) is is_proc
        os.close(fd)
