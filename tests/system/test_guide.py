"""Every example of api/rest-api.md, run as written against a real daemon and a real registry."""

from pathlib import Path

import pytest
from example_registry import ExampleRegistry

from tests.contract.examples import run_examples
from tests.system.daemon import Daemon, place

pytestmark = [pytest.mark.root, pytest.mark.lxc, pytest.mark.overlay, pytest.mark.network, pytest.mark.registry]

GUIDE = Path(__file__).parents[2] / "api" / "rest-api.md"


def test_the_guide(tmp_path: Path, example_registry: ExampleRegistry) -> None:
    with place() as directory, Daemon(directory / "state") as daemon:
        environment = {"SOCKET": str(daemon.socket), "REGISTRY": f"http://{example_registry.host}"}
        run_examples(GUIDE, tmp_path, environment)
        assert daemon.get("/1.0/images") == []
        assert daemon.get("/1.0/instances") == []
