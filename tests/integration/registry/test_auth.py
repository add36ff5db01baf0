"""Logging in: Basic, Bearer, identity tokens; what expires is renewed, and secrets stay where they belong."""

import asyncio
import logging

import pytest

from lxdpy.drivers.registry import RegistryClient
from lxdpy.errors import AccessDeniedError, RegistryError
from lxdpy.oci.reference import Reference
from tests.fakes.registry import Answer, FaultyRegistry, Pass, Redirect, error
from tests.integration.registry.conftest import AMD64, Puller

PASSWORD = "s3cret-p4ssword"


def _bearer(**options: object) -> FaultyRegistry:
    return FaultyRegistry(auth="bearer", **options)  # type: ignore[arg-type]


def test_a_token_for_everybody(puller: Puller) -> None:
    with _bearer() as registry:
        registry.add_image("org/app", "1")
        puller.resolve(f"{registry.host}/org/app:1")
        (token,) = registry.requested("/token")
        assert token.query == {"service": ["faulty, registry"], "scope": ["repository:org/app:pull"]}
        assert "authorization" not in token.headers
        assert [request.status for request in registry.requested("/v2/")] == [401, 200, 200]


def test_a_token_for_a_user(puller: Puller, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with _bearer(users={"user": PASSWORD}) as registry:
        registry.add_image("org/app", "1")
        puller.log_in(registry.host, "user", PASSWORD)
        puller.resolve(f"{registry.host}/org/app:1")
        (token,) = registry.requested("/token")
        assert token.query["account"] == ["user"]
        assert token.headers["authorization"].startswith("Basic ")
        for request in registry.requested("/v2/"):
            assert request.headers.get("authorization", "Bearer").startswith("Bearer")
    assert PASSWORD not in caplog.text
    assert "token-1" not in caplog.text


def test_wrong_password(puller: Puller) -> None:
    with _bearer(users={"user": PASSWORD}) as registry:
        registry.add_image("org/app", "1")
        puller.log_in(registry.host, "user", f"{PASSWORD}-2")
        with pytest.raises(AccessDeniedError, match=f"{registry.host} refuses the credentials") as caught:
            puller.resolve(f"{registry.host}/org/app:1")
        assert PASSWORD not in str(caught.value)


def test_what_only_users_may_pull(puller: Puller) -> None:
    with _bearer(users={"user": PASSWORD}) as registry:
        registry.add_image("org/app", "1")
        with pytest.raises(AccessDeniedError, match="only with the right login"):
            puller.resolve(f"{registry.host}/org/app:1")


def test_basic(puller: Puller) -> None:
    with FaultyRegistry(auth="basic", users={"user": PASSWORD}) as registry:
        registry.add_image("org/app", "1")
        with pytest.raises(AccessDeniedError, match="wants a user and password"):
            puller.resolve(f"{registry.host}/org/app:1")
        puller.log_in(registry.host, "user", PASSWORD)
        registry.requests.clear()
        puller.resolve(f"{registry.host}/org/app:1")
        assert [request.status for request in registry.requests] == [401, 200, 200]


def test_identity_tokens(puller: Puller) -> None:
    with _bearer(users={"user": "x"}, identity_tokens=[PASSWORD]) as registry:
        registry.add_image("org/app", "1")
        puller.log_in(registry.host, "user", "", identitytoken=PASSWORD)
        puller.resolve(f"{registry.host}/org/app:1")
        (token,) = registry.requested("/token", "POST")
        assert b"grant_type=refresh_token" in token.body
        assert "authorization" not in token.headers
        assert registry.requested("/token") == []


@pytest.mark.parametrize("status", [400, 401, 404, 405])
def test_a_token_server_without_post(puller: Puller, status: int) -> None:
    with _bearer(users={"user": PASSWORD}) as registry:
        registry.add_image("org/app", "1")
        registry.fault("/token", Answer(status), method="POST")
        puller.log_in(registry.host, "user", "", identitytoken=PASSWORD)
        puller.resolve(f"{registry.host}/org/app:1")
        assert len(registry.requested("/token", "POST")) == len(registry.requested("/token")) == 1


def test_a_token_that_expires_between_requests(puller: Puller) -> None:
    with _bearer() as registry:
        registry.add_image("org/app", "1")

        async def job(client: RegistryClient) -> None:
            reference = Reference.parse(f"{registry.host}/org/app:1")
            await client.resolve(reference, AMD64, cached=lambda digest: None)
            registry.expire_tokens()
            await client.resolve(reference, AMD64, cached=lambda digest: None)

        puller.run(job)
        assert registry.tokens_given == 2
        assert len(registry.requested("blobs")) == 2


def test_a_401_in_the_middle(puller: Puller) -> None:
    with _bearer() as registry:
        registry.add_image("org/app", "1")
        challenge = f'Bearer realm="{registry.url}/token",service="s"'
        registry.fault("blobs", error(401, "UNAUTHORIZED", "expired", challenge))
        puller.resolve(f"{registry.host}/org/app:1")
        assert registry.tokens_given == 2


def test_a_registry_that_never_has_enough(puller: Puller) -> None:
    with _bearer() as registry:
        registry.add_image("org/app", "1")
        challenge = f'Bearer realm="{registry.url}/token",service="s"'
        registry.fault("manifests", error(401, "DENIED", "no", challenge), forever=True)
        with pytest.raises(AccessDeniedError, match=r"no \(HTTP 401\)"):
            puller.resolve(f"{registry.host}/org/app:1")
        assert len(registry.requested("manifests")) == 2


def test_insufficient_scope(puller: Puller) -> None:
    with _bearer() as registry:
        registry.add_image("org/app", "1")
        asked = 'scope="repository:org/base:pull repository:org/app:pull",error="insufficient_scope"'
        challenge = f'Bearer realm="{registry.url}/token",service="s",{asked}'
        registry.fault("blobs", error(401, "DENIED", "more", challenge))
        puller.resolve(f"{registry.host}/org/app:1")
        assert registry.requested("/token")[1].query["scope"] == [
            "repository:org/app:pull",
            "repository:org/base:pull",
        ]


def test_one_token_for_many_at_once(puller: Puller) -> None:
    with _bearer() as registry:
        registry.add_image("org/app", "1")

        async def job(client: RegistryClient) -> None:
            reference = Reference.parse(f"{registry.host}/org/app:1")
            await asyncio.gather(*(client.resolve(reference, AMD64, cached=lambda digest: None) for _ in range(8)))

        puller.run(job)
        assert registry.tokens_given == 1


def test_forbidden_is_not_tried_again(puller: Puller, registry: FaultyRegistry) -> None:
    registry.fault("manifests", error(403, "DENIED", "requested access is denied"), forever=True)
    with pytest.raises(AccessDeniedError, match="requested access is denied"):
        puller.resolve(f"{registry.host}/org/app:1")
    assert len(registry.requests) == 1


def test_a_challenge_at_v2_only(puller: Puller) -> None:
    with _bearer() as registry:
        registry.add_image("org/app", "1")
        registry.fault("manifests", Answer(401))
        puller.resolve(f"{registry.host}/org/app:1")
        assert [request.path for request in registry.requests][:3] == ["/v2/org/app/manifests/1", "/v2/", "/token"]


def test_ways_to_log_in_that_are_not_ours(puller: Puller, registry: FaultyRegistry) -> None:
    registry.fault("manifests", error(401, "X", "x", "Negotiate, NTLM"))
    with pytest.raises(AccessDeniedError, match="by negotiate, ntlm; only Bearer and Basic"):
        puller.resolve(f"{registry.host}/org/app:1")


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"token":""}', b'{"token":"a\\r\\nX: y"}', b'{"token":1}', b"<html>"])
def test_answers_without_a_token(puller: Puller, body: bytes) -> None:
    with _bearer() as registry:
        registry.fault("/token", Answer(200, {}, body))
        with pytest.raises(RegistryError, match=r"token of|Cannot get a token"):
            puller.resolve(f"{registry.host}/org/app:1")


@pytest.mark.parametrize("realm", ["", "ftp://a/token", "file:///etc/passwd", "/token"])
def test_realms_that_are_no_url(puller: Puller, registry: FaultyRegistry, realm: str) -> None:
    registry.fault("manifests", error(401, "X", "x", f'Bearer realm="{realm}"'))
    with pytest.raises(RegistryError, match="no http or https URL"):
        puller.resolve(f"{registry.host}/org/app:1")


def test_credentials_do_not_follow_a_redirect_to_another_host(puller: Puller) -> None:
    with _bearer(users={"user": PASSWORD}) as registry, FaultyRegistry() as cdn:
        made = registry.add_image("org/app", "1")
        cdn.add_blob(made.config)
        puller.log_in(registry.host, "user", PASSWORD)
        registry.fault("blobs", Redirect(f"{cdn.url}/cdn/{{name}}"))
        puller.resolve(f"{registry.host}/org/app:1")
        (request,) = cdn.requests
        assert "authorization" not in request.headers
        assert "authorization" in registry.requested("blobs")[0].headers


def test_passwords_do_not_follow_a_redirect_of_the_token_server(puller: Puller) -> None:
    with _bearer(users={"user": PASSWORD}) as registry, FaultyRegistry() as other:
        puller.log_in(registry.host, "user", PASSWORD)
        registry.fault("/token", Redirect(f"{other.url}/token"))
        other.fault("/token", Answer(403))
        with pytest.raises(AccessDeniedError, match="refuses the credentials"):
            puller.resolve(f"{registry.host}/org/app:1")
        assert "authorization" in registry.requested("/token")[0].headers
        assert "authorization" not in other.requests[0].headers


def test_credentials_do_follow_a_redirect_within_the_host(puller: Puller) -> None:
    with FaultyRegistry(auth="basic", users={"user": PASSWORD}) as registry:
        registry.add_image("org/app", "1")
        puller.log_in(registry.host, "user", PASSWORD)
        registry.fault("manifests", Pass(), Redirect("{target}?again"))
        puller.resolve(f"{registry.host}/org/app:1")
        assert [request.status for request in registry.requested("manifests")] == [401, 307, 200]
