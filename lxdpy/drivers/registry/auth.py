"""From a challenge to an Authorization header.

    401 Bearer realm=URL,service=S,scope=C  ->  GET URL?service=S&scope=C [Basic user:password]  ->  Bearer TOKEN
                                                POST URL (identity token)                        ->  Bearer TOKEN
    401 Basic                               ->  Basic user:password

Headers are kept per host and repository until they expire. One is fetched at a time; who comes meanwhile waits for it.
"""

import asyncio
import base64
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit
from weakref import WeakValueDictionary

from lxdpy.drivers.registry import challenge, credentials
from lxdpy.drivers.registry.challenge import Challenge
from lxdpy.drivers.registry.credentials import Credentials
from lxdpy.drivers.registry.hosts import Host
from lxdpy.drivers.registry.http import Http, Response
from lxdpy.drivers.registry.transport import rate_limit
from lxdpy.errors import AccessDeniedError, RegistryError
from lxdpy.oci.document import Fields

logger = logging.getLogger(__name__)

MAX_TOKEN_BYTES = 1 << 20
MIN_LIFETIME_S = 60.0
"""For how long a token is good when nothing, or less, is said; a registry that disagrees answers 401."""

_BASIC_LIFETIME_S = 300.0
_CLIENT_ID = "lxdpy"
# What a token server answers that does not know POST: GCR 404, Artifactory 401, ACR 400.
_NO_POST = frozenset({400, 401, 404, 405})
_TOKEN = re.compile(r"[\x21-\x7e]+\Z")

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Header:
    value: str = field(repr=False)
    expires: float


class Authorizer:
    """The Authorization headers of all hosts and repositories."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._headers: dict[_Key, _Header] = {}
        self._scopes: dict[_Key, tuple[str, ...]] = {}
        self._challenges: dict[str, Challenge] = {}
        self._locks: WeakValueDictionary[_Key, asyncio.Lock] = WeakValueDictionary()

    async def authorization(self, host: Host, repository: str) -> str | None:
        """A header that is good now; None when it is not known whether the host wants one.

        Raises AccessDeniedError and RegistryError of the token server.
        """
        key = (host.name, f"{host.prefix}{repository}")
        async with self._lock(key):
            if (header := self._valid(key)) is not None:
                return header
            asked = self._challenges.get(host.name)
            if asked is None:
                return None
            if asked.scheme == "basic" and await credentials.find(*key) is None:
                return None
            return await self._obtain(host, key, asked)

    async def renew(self, host: Host, repository: str, challenges: Sequence[str], used: str | None) -> str:
        """A header other than `used`, which was refused with these WWW-Authenticate values.

        Raises AccessDeniedError when there is none to be had, RegistryError when the token server fails.
        """
        key = (host.name, f"{host.prefix}{repository}")
        async with self._lock(key):
            header = self._valid(key)
            if header is not None and header != used:
                return header
            self._headers.pop(key, None)
            asked = _choose(host, challenges or await self._ping(host))
            self._challenges[host.name] = asked
            if scope := asked.parameters.get("scope", ""):
                self._scopes[key] = tuple(dict.fromkeys((*self._scopes.get(key, ()), *scope.split())))
            return await self._obtain(host, key, asked)

    def _lock(self, key: _Key) -> asyncio.Lock:
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock

    def _valid(self, key: _Key) -> str | None:
        header = self._headers.get(key)
        return header.value if header is not None and time.monotonic() < header.expires else None

    async def _ping(self, host: Host) -> tuple[str, ...]:
        """Some registries (gcr.io) tell how to log in at /v2/ only."""
        response = await self._http.fetch(f"{await self._http.base_url(host)}/v2/", host, limit=MAX_TOKEN_BYTES)
        return response.challenges()

    async def _obtain(self, host: Host, key: _Key, asked: Challenge) -> str:
        found = await credentials.find(*key)
        if asked.scheme == "basic":
            if found is None or not found.username:
                raise AccessDeniedError(f"{host.name} wants a user and password, and there are none for it: log in")
            header = _Header(_basic(found.username, found.password), time.monotonic() + _BASIC_LIFETIME_S)
        else:
            header = await self._token(host, key, asked, found)
        now = time.monotonic()
        self._headers = {key: kept for key, kept in self._headers.items() if now < kept.expires}
        self._headers[key] = header
        return header.value

    async def _token(self, host: Host, key: _Key, asked: Challenge, found: Credentials | None) -> _Header:
        """An access token of the challenge's token server."""
        realm = asked.parameters.get("realm", "")
        await self._check_realm(host, realm)
        service = asked.parameters.get("service", "")
        scopes = self._scopes.get(key) or (f"repository:{key[1]}:pull",)
        response = None
        if found is not None and found.identity_token:
            response = await self._post(host, realm, service, scopes, found.identity_token)
        if response is None or response.status in _NO_POST:
            response = await self._get(host, realm, service, scopes, found)
        server = urlsplit(realm).netloc
        if response.status in (401, 403):
            known = f"the credentials for {host.name}" if found is not None else "pulls without logging in"
            raise AccessDeniedError(f"{server} refuses {known} (HTTP {response.status})")
        if response.status == 429:
            raise RegistryError(rate_limit(server, response.headers))
        if response.status != 200:
            raise RegistryError(f"Cannot get a token for {host.name} from {server}: HTTP {response.status}")
        answer = Fields.parse(response.body, f"token of {server}")
        token = answer.text("token") or answer.text("access_token")
        if not _TOKEN.match(token):
            raise RegistryError(f"Cannot get a token for {host.name} from {server}: there is none in its answer")
        lifetime = max(MIN_LIFETIME_S, answer.size("expires_in") if answer.has("expires_in") else 0)
        # Counted from now, not from issued_at: the clocks may differ.
        return _Header(f"Bearer {token}", time.monotonic() + lifetime * 0.9)

    async def _check_realm(self, host: Host, realm: str) -> None:
        """The token server gets the password: what was asked for over https is not sent over http."""
        parts = urlsplit(realm)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise RegistryError(f"Cannot get a token for {host.name}: its token server has no http or https URL")
        if parts.scheme == "http" and not (await self._http.base_url(host)).startswith("http:"):
            raise RegistryError(f"Cannot get a token for {host.name}: its token server {parts.netloc} is not on https")

    async def _get(
        self, host: Host, realm: str, service: str, scopes: Sequence[str], found: Credentials | None
    ) -> Response:
        parameters = [("service", service)] if service else []
        parameters += [("scope", scope) for scope in scopes]
        headers = {}
        if found is not None:
            if found.username:
                parameters.append(("account", found.username))
            secret = found.password or found.identity_token
            headers["Authorization"] = _basic(found.username or "<token>", secret)
        url = f"{realm}{'&' if urlsplit(realm).query else '?'}{urlencode(parameters)}"
        return await self._http.fetch(url, host, limit=MAX_TOKEN_BYTES, headers=headers)

    async def _post(self, host: Host, realm: str, service: str, scopes: Sequence[str], secret: str) -> Response:
        form = {
            "grant_type": "refresh_token",
            "service": service,
            "client_id": _CLIENT_ID,
            "scope": " ".join(scopes),
            "refresh_token": secret,
        }
        return await self._http.fetch(realm, host, method="POST", form=form, limit=MAX_TOKEN_BYTES)


def _choose(host: Host, values: Sequence[str]) -> Challenge:
    """The best challenge that can be met."""
    offered = challenge.parse(values)
    for scheme in ("bearer", "basic"):
        for one in offered:
            if one.scheme == scheme:
                return one
    schemes = ", ".join(sorted({one.scheme for one in offered})) or "no way at all"
    raise AccessDeniedError(f"{host.name} wants a login, by {schemes:.200}; only Bearer and Basic are supported")


def _basic(username: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"
