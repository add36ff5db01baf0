"""Every example of api/rest-api.md, run as written against a real daemon and a real registry."""

from pathlib import Path

import pytest
from example_registry import ExampleRegistry

from tests.contract.examples import run_examples
from tests.system.daemon import Daemon

pytestmark = [pytest.mark.root, pytest.mark.lxc, pytest.mark.overlay, pytest.mark.network, pytest.mark.registry]

GUIDE = Path(__file__).parents[2] / "api" / "rest-api.md"


def test_the_guide(tmp_path: Path, example_registry: ExampleRegistry) -> None:
    tmp_path.chmod(0o711)
    tmp_path.parent.chmod(0o711)
    work = tmp_path / "work"
    work.mkdir()
    with Daemon(tmp_path / "state") as daemon:
        environment = {"SOCKET": str(daemon.socket), "REGISTRY": f"http://{example_registry.host}"}
        run_examples(GUIDE, work, environment)
        assert daemon.get("/1.0/images") == []
        assert daemon.get("/1.0/instances") == []
