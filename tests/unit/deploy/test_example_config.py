"""deploy/lxdpy.toml: every setting, each with its default."""

import re
from dataclasses import fields
from pathlib import Path

from lxdpy import config

EXAMPLE = Path(__file__).parents[3] / "deploy" / "lxdpy.toml"


def _switched_on(text: str) -> str:
    """The file with its settings uncommented; prose has a blank after the #."""
    return re.sub(r"^#(?=[\[a-z])", "", text, flags=re.MULTILINE)


def test_as_shipped_it_changes_nothing() -> None:
    assert config.load(config_file=EXAMPLE) == config.Config()


def test_it_shows_the_defaults_of_every_setting(tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8").replace("#unpacks = 4\n", "")
    switched_on = tmp_path / "lxdpy.toml"
    switched_on.write_text(_switched_on(text), encoding="utf-8")

    loaded = config.load(config_file=switched_on)

    default = config.Config()
    assert loaded.registries.pop("docker.io") == config.RegistryConfig()  # type: ignore[attr-defined]
    assert all(getattr(loaded, name) == getattr(default, name) for name in _sections())
    shown = set(re.findall(r"^#([a-z_0-9]+) = ", EXAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE))
    known = {entry.name for name in _sections() for entry in fields(getattr(default, name))}
    assert shown == known | {entry.name for entry in fields(config.RegistryConfig)}


def _sections() -> list[str]:
    return [entry.name for entry in fields(config.Config) if entry.name not in {"state_dir", "group", "registries"}]
