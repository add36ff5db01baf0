"""Credentials of docker, podman and their helpers, found as those tools find them."""

import asyncio
import base64
import json
import logging
import os
import time
from pathlib import Path

import pytest

from lxdpy.drivers.registry import credentials
from lxdpy.drivers.registry.credentials import Credentials


class Home:
    """A home directory with nothing in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = {"HOME": str(path), "XDG_RUNTIME_DIR": str(path / "run"), "PATH": f"{path}:/usr/bin:/bin"}

    def write(self, name: str, document: object) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document if isinstance(document, str) else json.dumps(document))

    def docker(self, **document: object) -> None:
        self.write(".docker/config.json", document)

    def helper(self, name: str, script: str) -> None:
        path = self.path / f"docker-credential-{name}"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def find(self, host: str, repository: str = "org/app") -> Credentials | None:
        return asyncio.run(credentials.find(host, repository, self.environment))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def _auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_nothing(home: Home) -> None:
    assert home.find("registry.example") is None


def test_docker(home: Home) -> None:
    home.docker(auths={"registry.example:5000": _auth("user", "pass:word\0")})
    assert home.find("registry.example:5000") == Credentials("user", "pass:word")
    assert home.find("registry.example") is None


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io"])
def test_names_of_the_hub(home: Home, key: str) -> None:
    home.docker(auths={key: _auth("user", "secret")})
    assert home.find("docker.io", "library/alpine") == Credentials("user", "secret")


@pytest.mark.parametrize("key", ["https://r.example", "https://r.example/v2/", "http://r.example/", "r.example/v1"])
def test_keys_written_as_urls(home: Home, key: str) -> None:
    home.docker(auths={key: _auth("user", "secret")})
    assert home.find("r.example") == Credentials("user", "secret")


def test_the_longest_prefix_wins(home: Home) -> None:
    keys = ("r.example", "r.example/org", "r.example/org/app", "r.example/org/ap")
    home.docker(auths={key: _auth(key, "x") for key in keys})
    for repository, key in {"org/app": "r.example/org/app", "org/other": "r.example/org", "else": "r.example"}.items():
        found = home.find("r.example", repository)
        assert found is not None
        assert found.username == key


def test_the_order_of_files(home: Home) -> None:
    home.environment["REGISTRY_AUTH_FILE"] = str(home.path / "named.json")
    names = ["named.json", "run/containers/auth.json", ".config/containers/auth.json", ".docker/config.json"]
    for name in names:
        home.write(name, {"auths": {"r.example": _auth(name.replace(":", ""), "x")}})
    for name in names:
        found = home.find("r.example")
        assert found is not None
        assert found.username == name
        (home.path / name).unlink()
    assert home.find("r.example") is None


def test_docker_config_names_a_directory(home: Home) -> None:
    home.environment["DOCKER_CONFIG"] = str(home.path / "elsewhere")
    home.write("elsewhere/config.json", {"auths": {"r.example": {"username": "user", "password": "secret"}}})
    assert home.find("r.example") == Credentials("user", "secret")


def test_identity_tokens(home: Home) -> None:
    home.docker(
        auths={"a.example": {**_auth("user", ""), "identitytoken": "secret"}, "b.example": _auth("<token>", "secret")}
    )
    assert home.find("a.example") == Credentials("user", "", "secret")
    assert home.find("b.example") == Credentials("", "", "secret")


def test_helpers_and_stores(home: Home) -> None:
    home.helper("one", 'read host; echo "{\\"Username\\":\\"one\\",\\"Secret\\":\\"$host\\"}"')
    home.helper("all", 'read host; echo "{\\"Username\\":\\"<token>\\",\\"Secret\\":\\"$host\\"}"')
    home.docker(credHelpers={"r.example": "one"}, credsStore="all", auths={"s.example": {}})
    assert home.find("r.example") == Credentials("one", "r.example")
    assert home.find("s.example") == Credentials("", "", "s.example")
    assert home.find("docker.io") == Credentials("", "", "https://index.docker.io/v1/")


def test_a_helper_that_knows_nothing(home: Home) -> None:
    home.helper("none", 'echo "credentials not found in native keychain"; exit 1')
    home.docker(credsStore="none", auths={"r.example": _auth("user", "secret")})
    assert home.find("r.example") == Credentials("user", "secret")
    assert home.find("s.example") is None


def test_a_helper_that_hangs(home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(credentials, "HELPER_TIMEOUT_S", 0.2)
    home.helper("slow", f"echo $$ > {home.path}/pid; exec sleep 60")
    home.docker(credsStore="slow")
    start = time.monotonic()
    assert home.find("r.example") is None
    assert time.monotonic() - start < 10
    assert "did not answer within 0.2 s" in caplog.text
    with pytest.raises(ProcessLookupError):
        os.kill(int((home.path / "pid").read_text()), 0)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ("{", "no JSON"),
        ({"auths": {"r.example": {"auth": "s3cret!"}}}, "base64"),
        ({"auths": []}, "auths must be an object"),
        ({"credsStore": "missing"}, "cannot run docker-credential-missing"),
        ({"credsStore": "../../bin/sh"}, "no credential helper's name"),
    ],
)
def test_what_will_not_do_is_logged_without_secrets(
    home: Home, caplog: pytest.LogCaptureFixture, document: object, why: str
) -> None:
    home.write(".docker/config.json", document)
    with caplog.at_level(logging.WARNING):
        assert home.find("r.example") is None
    assert why in caplog.text
    assert "s3cret" not in caplog.text


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(Credentials("user", "secret", "secret"))
