"""The README's first command, as it stands: it does the main job and leaves nothing behind."""

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.root,
    pytest.mark.lxc,
    pytest.mark.overlay,
    pytest.mark.network,
    pytest.mark.registry,
]

QUICKSTART = Path(__file__).parents[2] / "deploy/quickstart.sh"


def left() -> list[str]:
    """What a quickstart of this host has left: processes, directories, bridges."""
    found = [str(path) for path in Path("/var/tmp").glob("lxdpy-quickstart.*")]
    found += [name for name in os.listdir("/sys/class/net") if name.startswith("lxdpyq")]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = process.joinpath("cmdline").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if "lxdpy-quickstart." in command:
            found.append(command.replace("\0", " "))
    return found


def test_it_succeeds_and_leaves_nothing() -> None:
    assert left() == []
    done = subprocess.run(
        ("sh", str(QUICKSTART)), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert left() == []
