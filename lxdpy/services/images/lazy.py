"""Images that are looked up in a registry because somebody asks for them by name; none of them is here yet.

    lxc launch docker:alpine:3.20 c1      GET  images/aliases/alpine:3.20     resolved: manifest and config, no layer
                                          GET  images/HEX                     the virtual image: what a pull would make
                                          POST instances {fingerprint: HEX}   pulled

A name is looked up when it says by itself that it is in a registry: it has a tag or a digest, or begins with a host.
All others may be misspelt aliases, which nobody should wait for, or read about in a registry's log.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakValueDictionary

from lxdpy.drivers.base import ResolvedImage
from lxdpy.errors import AccessDeniedError, InvalidRequestError, LxdpyError, NotFoundError, RegistryError
from lxdpy.oci.reference import Reference

LOOKUP_TIMEOUT_S = 8.0
"""How long a registry may take to answer: somebody waits for `lxc image info`, perhaps of a misspelt name."""
NAME_S = 10.0
"""How long what a name led to, an image or an error, is taken as it is."""
VIRTUAL_S = 600.0
"""How long an image that is not here can be asked for by fingerprint, and an instance be made of it."""

T = TypeVar("T")

_MOST_IMAGES = 256
_MOST_NAMES = 1024


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a name led to."""

    outcome: ResolvedImage | LxdpyError
    until: float


class LazyImages:
    """What was looked up lately. `resolve` asks the registry; `clock` counts seconds."""

    def __init__(
        self,
        resolve: Callable[[Reference], Awaitable[ResolvedImage]],
        default_registry: str,
        *,
        timeout_s: float = LOOKUP_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resolve = resolve
        self._default_registry = default_registry
        self._timeout_s = timeout_s
        self._clock = clock
        self._answers: dict[str, _Answer] = {}
        self._images: dict[str, tuple[ResolvedImage, float]] = {}
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def reference(self, name: str) -> Reference | None:
        """What `name` means in a registry; None when it does not say that it is in one, or can't be."""
        if not _says_so(name):
            return None
        try:
            return Reference.parse(name, self._default_registry)
        except InvalidRequestError:
            return None

    def get(self, fingerprint: str) -> ResolvedImage | None:
        """An image that was looked up lately, by its whole fingerprint."""
        found, until = self._images.get(fingerprint, (None, 0.0))
        return found if self._clock() < until else None

    def failure(self, name: str) -> LxdpyError | None:
        """Why `name` led to nothing, if it was looked up lately."""
        reference = self.reference(name)
        answer = self._answers.get(str(reference)) if reference is not None else None
        if answer is None or isinstance(answer.outcome, ResolvedImage) or answer.until <= self._clock():
            return None
        return _again(answer.outcome)

    async def find(self, reference: Reference) -> ResolvedImage:
        """Look `reference` up, once for all who ask at the same time or a little later.

        Raises NotFoundError, also when the registry refuses it without saying whether it exists; RegistryError, also
        when there is no answer within the time that it may take.
        """
        name = str(reference)
        # Held by those who wait, and gone with the last of them.
        lock = self._asking.setdefault(name, asyncio.Lock())
        async with lock:
            answer = self._answers.get(name)
            if answer is None or answer.until <= self._clock():
                answer = await self._ask(reference)
        if isinstance(answer.outcome, ResolvedImage):
            return answer.outcome
        raise _again(answer.outcome)

    async def _ask(self, reference: Reference) -> _Answer:
        outcome: ResolvedImage | LxdpyError
        try:
            async with asyncio.timeout(self._timeout_s):
                outcome = await self._resolve(reference)
        except TimeoutError:
            outcome = RegistryError(
                f'Cannot look up image "{reference.familiar}": {reference.registry} did not answer within '
                f"{self._timeout_s:g} s"
            )
        except AccessDeniedError as exc:
            # What does not exist is refused by many registries, docker.io among them.
            outcome = NotFoundError(str(exc))
        except LxdpyError as exc:
            outcome = exc
        now = self._clock()
        if isinstance(outcome, ResolvedImage):
            _room(self._images, _MOST_IMAGES, [key for key, (_, until) in self._images.items() if until <= now])
            self._images[outcome.manifest_digest.hex] = (outcome, now + VIRTUAL_S)
        _room(self._answers, _MOST_NAMES, [key for key, old in self._answers.items() if old.until <= now])
        answer = self._answers[str(reference)] = _Answer(outcome, now + NAME_S)
        return answer


def _room(cache: dict[str, T], most: int, stale: Iterable[str]) -> None:
    """Make room for one more: what is stale goes, and the oldest."""
    for key in list(stale):
        del cache[key]
    for key in list(cache)[: max(0, len(cache) - most + 1)]:
        del cache[key]


def _says_so(name: str) -> bool:
    path, pinned, _ = name.partition("@")
    host, more, _ = path.partition("/")
    if pinned or (more and ("." in host or ":" in host or host == "localhost")):
        return True
    return ":" in path.rpartition("/")[2]


def _again(error: LxdpyError) -> LxdpyError:
    """The same error, for another one who asks."""
    return type(error)(str(error))
