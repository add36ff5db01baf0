"""Credentials that users have given to docker, podman or skopeo: found where those tools leave them, never written.

Asked in this order, the first file that knows the registry wins:

    $REGISTRY_AUTH_FILE
    $XDG_RUNTIME_DIR/containers/auth.json (or /run/containers/UID/auth.json)
    ~/.config/containers/auth.json
    $DOCKER_CONFIG/config.json (or ~/.docker/config.json)

In a file: {"auths": {KEY: {"auth": BASE64, "identitytoken": TEXT}}, "credHelpers": {HOST: NAME}, "credsStore": NAME}.
A KEY is HOST, HOST/NAMESPACE or HOST/NAMESPACE/REPOSITORY, the longest that fits wins; it may be written as a URL.
"""

import asyncio
import base64
import binascii
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lxdpy.errors import RegistryError
from lxdpy.oci.document import Fields
from lxdpy.oci.reference import DOCKER_HUB

logger = logging.getLogger(__name__)

HELPER_TIMEOUT_S = 20.0

_HUB_SERVER = "https://index.docker.io/v1/"
_HUB_HOSTS = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})
_TOKEN_USER = "<token>"
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and password, or an identity token to be changed for access tokens."""

    username: str
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


async def find(host: str, repository: str, environment: Mapping[str, str] = os.environ) -> Credentials | None:
    """The credentials for `repository` on `host`, or None.

    A file or helper that won't do is logged and left out: what is public can be had without it.
    """
    for path in _files(environment):
        try:
            found = await _look_up(path, host, repository, environment)
        except RegistryError as exc:
            logger.warning("Cannot use the credentials in %s: %s", path, exc)
            continue
        if found is not None:
            return found
    return None


def _files(environment: Mapping[str, str]) -> Iterator[Path]:
    home = Path(environment.get("HOME") or Path.home())
    if named := environment.get("REGISTRY_AUTH_FILE"):
        yield Path(named)
    runtime = environment.get("XDG_RUNTIME_DIR")
    yield Path(runtime or f"/run/containers/{os.getuid()}") / ("containers/auth.json" if runtime else "auth.json")
    yield Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "containers/auth.json"
    yield Path(environment.get("DOCKER_CONFIG") or home / ".docker") / "config.json"


async def _look_up(path: Path, host: str, repository: str, environment: Mapping[str, str]) -> Credentials | None:
    document = await asyncio.to_thread(_read, path)
    if document is None:
        return None
    auths = document.object("auths")
    keys = {_normalised(key): key for key in auths.names()}
    parts = repository.split("/")
    for length in range(len(parts), 0, -1):
        key = keys.get("/".join((host, *parts[:length])))
        if key is not None and (found := _entry(auths.object(key))) is not None:
            return found
    helpers = {_normalised(key): name for key, name in document.mapping("credHelpers").items()}
    helper = helpers.get(host) or document.text("credsStore")
    if helper and (found := await _ask(helper, host, environment)) is not None:
        return found
    key = keys.get(host)
    return _entry(auths.object(key)) if key is not None else None


def _read(path: Path) -> Fields | None:
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise RegistryError(exc.strerror) from exc
    return Fields.parse(data, "credentials file")


def _normalised(key: str) -> str:
    """A key without scheme, API version and slashes; all names of docker's hub are one."""
    name = key.partition("://")[2] or key
    name = re.sub(r"/v[12]/?\Z", "", name).rstrip("/")
    host, slash, rest = name.partition("/")
    return f"{DOCKER_HUB if host in _HUB_HOSTS else host}{slash}{rest}"


def _entry(fields: Fields) -> Credentials | None:
    identity_token = fields.text("identitytoken")
    username, password = fields.text("username"), fields.text("password")
    if encoded := fields.text("auth"):
        try:
            decoded = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            # Neither the text nor what was made of it may get into a message.
            raise RegistryError(f"Invalid {fields.what}: auth must be base64") from None
        username, _, password = decoded.partition(":")
        password = password.rstrip("\0")
    if username == _TOKEN_USER:
        username, password, identity_token = "", "", password
    return Credentials(username, password, identity_token) if username or identity_token else None


async def _ask(helper: str, host: str, environment: Mapping[str, str]) -> Credentials | None:
    """What docker-credential-HELPER knows of `host`."""
    if not _HELPER.match(helper):
        raise RegistryError(f'"{helper:.100}" is no credential helper\'s name')
    command = f"docker-credential-{helper}"
    server = _HUB_SERVER if host == DOCKER_HUB else host
    try:
        process = await asyncio.create_subprocess_exec(
            command,
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=dict(environment),
        )
    except OSError as exc:
        raise RegistryError(f"cannot run {command}: {exc.strerror}") from exc
    try:
        async with asyncio.timeout(HELPER_TIMEOUT_S):
            output, _ = await process.communicate(server.encode())
    except TimeoutError as exc:
        raise RegistryError(f"{command} did not answer within {HELPER_TIMEOUT_S:g} s") from exc
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        # Also the way to say that it knows nothing of this host.
        logger.debug("%s has no credentials for %s", command, server)
        return None
    fields = Fields.parse(output, f"answer of {command}")
    username, secret = fields.text("Username"), fields.text("Secret")
    if username == _TOKEN_USER:
        return Credentials("", identity_token=secret)
    return Credentials(username, secret) if username else None
