"""pylxd's own integration tests, as its source package has them, against the daemon."""

import os
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import tls_relay
from tests.fakes.certificates import make
from tests.system.daemon import CLIENTS, Daemon, place

pytestmark = [
    pytest.mark.root,
    pytest.mark.lxc,
    pytest.mark.overlay,
    pytest.mark.network,
    pytest.mark.clients,
]

TESTS = ("containers", "images", "instances", "networks", "profiles", "projects", "storage")
"""All but client (logs in with a certificate) and cluster_members."""

TLS_PORT = 8443
"""Where pylxd's tests of projects first look, by https, whether the server has projects."""

SKIPPED = (
    # An extension of a later LXD.
    "instances_state_selective_recursion",
    # pylxd skips these whatever the server is: three migrations to another host, and three that say nothing of it.
    "This test is broken as it assumes particular network",
    "on volumes",
)
"""Parts of the reasons for which pylxd may skip a test of its own."""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with place() as directory, Daemon(directory / "state") as running:
        yield running


@pytest.mark.parametrize("name", TESTS)
def test_integration(daemon: Daemon, name: str, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LXD", "PYTEST", "PYTHON"))}
    certificates = make(tmp_path)
    options = f"-q -c {os.devnull} --rootdir . -p no:cacheprovider --timeout=60 --junit-xml {report}"
    done = subprocess.run(
        tls_relay.inside(
            str(certificates.server),
            str(certificates.server_key),
            TLS_PORT,
            str(daemon.socket),
            str(CLIENTS / "venv/bin/python"),
            *("-m", "pytest", *options.split(), f"integration/test_{name}.py"),
        ),
        cwd=CLIENTS / "pylxd",
        env={
            **environment,
            "LXD_DIR": str(daemon.state_dir),
            "HOME": str(tmp_path),
            "REQUESTS_CA_BUNDLE": str(certificates.ca),
        },
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    cases = list(ElementTree.parse(report).iter("testcase"))
    skipped = {case.get("name"): skip.get("message", "") for case in cases for skip in case.iter("skipped")}
    assert {test: why for test, why in skipped.items() if not any(reason in why for reason in SKIPPED)} == {}
    assert len(cases) > 2
