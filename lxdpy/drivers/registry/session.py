"""What resolving and blobs share: the hosts of a registry, their base URLs, requests that log in when asked to."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from lxdpy.config import Config
from lxdpy.drivers.registry.auth import Authorizer
from lxdpy.drivers.registry.hosts import Host, hosts_of
from lxdpy.drivers.registry.http import Http, Response
from lxdpy.drivers.registry.transport import MAX_ATTEMPTS, rate_limit, same_origin
from lxdpy.errors import AccessDeniedError, LxdpyError, NotFoundError, RegistryError
from lxdpy.oci.document import Fields, clean
from lxdpy.oci.media_types import ACCEPTED
from lxdpy.oci.reference import Reference

logger = logging.getLogger(__name__)

T = TypeVar("T")

_MIRROR_ATTEMPTS = 2


class Session:
    """Requests to the hosts of `config`."""

    def __init__(self, config: Config, *, idle_timeout_s: float, certs_dirs: Sequence[Path]) -> None:
        self._config = config
        self._certs_dirs = certs_dirs
        self._http = Http(idle_timeout_s=idle_timeout_s)
        self.auth = Authorizer(self._http)

    async def aclose(self) -> None:
        """Close connections."""
        await self._http.aclose()

    def hosts(self, reference: Reference) -> tuple[Host, ...]:
        """The hosts to ask for `reference`: mirrors first, the registry itself last."""
        return hosts_of(reference.registry, self._config, self._certs_dirs)

    async def base_url(self, host: Host) -> str:
        """See `Http.base_url`."""
        return await self._http.base_url(host)

    async def get(self, host: Host, reference: Reference, kind: str, name: str, *, limit: int) -> Response:
        """A manifest or blob (`kind`) of at most `limit` bytes.

        Raises NotFoundError, AccessDeniedError and RegistryError for what is not answered by 200.
        """
        try:
            response = await self._get(host, reference, kind, name, limit)
            if response.status != 200:
                raise _refusal(response, host, reference)
            if response.content_type() == "text/html" and kind == "manifests":
                raise RegistryError(f"{host.name} answers with a web page: it is no registry")
        except RegistryError:
            self._http.forget(host)
            raise
        return response

    async def _get(self, host: Host, reference: Reference, kind: str, name: str, limit: int) -> Response:
        attempts = MAX_ATTEMPTS if host.mirror_of is None else _MIRROR_ATTEMPTS
        headers = {"Accept": ", ".join(ACCEPTED) if kind == "manifests" else "*/*"}
        url = f"{await self.base_url(host)}{host.path(reference.repository, kind, name)}"
        authorization = await self.auth.authorization(host, reference.repository)
        if authorization is not None:
            headers["Authorization"] = authorization
        response = await self._http.fetch(url, host, limit=limit, headers=headers, attempts=attempts)
        if response.status != 401:
            return response
        # Who else asks for a login, after a redirect, has no say in where the password goes.
        challenges = response.challenges() if same_origin(url, response.url) else ()
        headers["Authorization"] = await self.auth.renew(host, reference.repository, challenges, authorization)
        return await self._http.fetch(url, host, limit=limit, headers=headers, attempts=attempts)


async def first(hosts: Sequence[Host], ask: Callable[[Host], Awaitable[T]]) -> T:
    """What the first host answers that has an answer. Raises the origin's error when none has."""
    failure: LxdpyError | None = None
    for host in hosts:
        try:
            return await ask(host)
        except LxdpyError as exc:
            if host.mirror_of is not None:
                logger.warning("Mirror %s of %s: %s", host.name, host.mirror_of, exc)
            if failure is None or host.mirror_of is None:
                failure = exc
    assert failure is not None
    raise failure


def _refusal(response: Response, host: Host, reference: Reference) -> LxdpyError:
    """The error that an answer means."""
    name = host.name if host.name == host.address else f"{host.name} ({host.address})"
    detail = _detail(response)
    mark = "@" if reference.digest else ":"
    match response.status:
        case 404:
            return NotFoundError(f"{name} has no {reference.repository}{mark}{reference.target}: {detail}")
        case 401 | 403:
            return AccessDeniedError(
                f"{name} has no {reference.repository}, or lets it be pulled only with the right login: {detail}"
            )
        case 429:
            return RegistryError(rate_limit(host.name, response.headers))
    return RegistryError(f"{name} answered {detail}")


def _detail(response: Response) -> str:
    """What an error answer says for itself: `manifest unknown (HTTP 404)`."""
    status = f"HTTP {response.status}"
    try:
        errors = Fields.parse(response.body, "error").objects("errors")
        text = errors[0].text("message") or errors[0].text("code") if errors else ""
    except RegistryError:
        return status
    text = "".join(character if character.isprintable() else " " for character in clean(text))
    return f"{text:.200} ({status})" if text else status
