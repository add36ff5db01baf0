"""deploy/token_server.py: who gets which token."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
from token_server import Signer, TokenServer

pytestmark = pytest.mark.registry


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(tmp_path_factory.mktemp("signer"))


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _get(server: TokenServer, scope: str, user: str | None = None) -> Any:
    url = f"{server.realm}?{urlencode({'service': 'some-registry', 'scope': scope})}"
    headers = {"Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"} if user else {}
    with urlopen(Request(url, headers=headers), timeout=10) as answer:
        return json.load(answer)


def _claims(answer: Any) -> Any:
    return json.loads(_decoded(answer["token"].split(".")[1]))


def test_anybody_may_pull_and_only_pull(signer: Signer) -> None:
    with TokenServer(signer, lifetime_s=60) as server:
        answer = _get(server, "repository:team/app:pull,push")

    claims = _claims(answer)
    assert claims["access"] == [{"type": "repository", "name": "team/app", "actions": ["pull"]}]
    assert claims["aud"] == "some-registry"
    assert claims["exp"] - claims["iat"] == 60 == answer["expires_in"]


def test_the_user_may_push(signer: Signer) -> None:
    with TokenServer(signer) as server:
        claims = _claims(_get(server, "repository:app:pull,push", user="demo:demo"))

    assert claims["access"] == [{"type": "repository", "name": "app", "actions": ["pull", "push"]}]
    assert claims["sub"] == "demo"


def test_wrong_credentials_get_nothing(signer: Signer) -> None:
    with TokenServer(signer) as server, pytest.raises(HTTPError) as caught:
        _get(server, "repository:app:pull", user="demo:wrong")

    with caught.value as answer:
        assert answer.code == 401


def test_the_signature_is_of_the_certificate_in_the_header(signer: Signer, tmp_path: Path) -> None:
    signed, _, signature = signer.jwt({"sub": "x"}).rpartition(".")
    (tmp_path / "signature").write_bytes(_decoded(signature))
    key = subprocess.run(
        ["openssl", "x509", "-inform", "DER", "-noout", "-pubkey"],
        input=base64.b64decode(json.loads(_decoded(signed.split(".")[0]))["x5c"][0]),
        capture_output=True,
        check=True,
    ).stdout
    (tmp_path / "key.pem").write_bytes(key)

    done = subprocess.run(
        ["openssl", "dgst", "-sha256", "-verify", tmp_path / "key.pem", "-signature", tmp_path / "signature"],
        input=signed.encode(),
        capture_output=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def test_a_signer_keeps_its_key(signer: Signer) -> None:
    before = signer.certificate.read_bytes()

    assert Signer(signer.certificate.parent).certificate.read_bytes() == before
