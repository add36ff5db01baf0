"""The daemon's JSON as frozen records.

Each has the fields that this client reads, with a neutral value for what an older or other server leaves out, and
`raw`: the object as it came. Unknown fields never fail.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from lxdpy.client.errors import OperationCancelled, OperationFailed

Json = Mapping[str, Any]

SUCCESS, FAILURE, CANCELLED = 200, 400, 401


@dataclass(frozen=True, slots=True)
class LayerProgress:
    """One layer of a pull; `state` is waiting, downloading, unpacking, done or exists."""

    digest: str
    size: int
    done: int
    state: str


@dataclass(frozen=True, slots=True)
class OperationRecord:
    """A background operation at one moment."""

    id: str
    description: str
    status: str
    status_code: int
    may_cancel: bool
    err: str
    created_at: str
    resources: Mapping[str, Sequence[str]]
    metadata: Json
    raw: Json

    @classmethod
    def parse(cls, raw: Json) -> "OperationRecord":
        """Read an operation object."""
        return cls(
            id=raw["id"],
            description=raw.get("description") or "",
            status=raw.get("status") or "",
            status_code=raw["status_code"],
            may_cancel=bool(raw.get("may_cancel")),
            err=raw.get("err") or "",
            created_at=raw.get("created_at") or "",
            resources=raw.get("resources") or {},
            metadata=raw.get("metadata") or {},
            raw=raw,
        )

    @property
    def final(self) -> bool:
        """Whether it is over."""
        return self.status_code in (SUCCESS, FAILURE, CANCELLED)

    @property
    def error_code(self) -> int:
        """The HTTP status that fits a failure (an extension of lxdpy; 400 elsewhere)."""
        code = self.metadata.get("error_code")
        return code if isinstance(code, int) and code else 400

    @property
    def layers(self) -> tuple[LayerProgress, ...]:
        """The layers of a pull, bottom first; empty for everything else."""
        return tuple(
            LayerProgress(layer["digest"], layer.get("size") or 0, layer.get("done") or 0, layer.get("state") or "")
            for layer in self.metadata.get("layers") or ()
        )

    @property
    def progress(self) -> str:
        """The server's progress text; empty if it says nothing."""
        texts = [str(value) for key, value in self.metadata.items() if key.endswith("_progress")]
        return texts[0] if texts else ""

    def resource(self, *kinds: str) -> str:
        """Name of the first resource of one of `kinds` that it made or works on; empty if there is none."""
        for kind in kinds:
            if urls := self.resources.get(kind):
                return unquote(urlsplit(urls[0]).path.rsplit("/", 1)[-1])
        return ""

    def raise_for_status(self) -> "OperationRecord":
        """Itself; raises OperationFailed if it ended in anything but success."""
        if self.status_code == CANCELLED:
            raise OperationCancelled(self)
        if self.status_code == FAILURE:
            raise OperationFailed(self)
        return self


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """An instance's configuration and status."""

    name: str
    status: str
    type: str
    architecture: str
    description: str
    created_at: str
    ephemeral: bool
    profiles: Sequence[str]
    config: Mapping[str, str]
    devices: Mapping[str, Mapping[str, str]]
    raw: Json

    @classmethod
    def parse(cls, raw: Json) -> "InstanceRecord":
        """Read an instance object (recursion 1 or 2)."""
        return cls(
            name=raw["name"],
            status=raw.get("status") or "",
            type=raw.get("type") or "container",
            architecture=raw.get("architecture") or "",
            description=raw.get("description") or "",
            created_at=raw.get("created_at") or "",
            ephemeral=bool(raw.get("ephemeral")),
            profiles=raw.get("profiles") or (),
            config=raw.get("config") or {},
            devices=raw.get("devices") or {},
            raw=raw,
        )

    @property
    def state(self) -> "InstanceState | None":
        """The state that came with it (recursion 2)."""
        state = self.raw.get("state")
        return InstanceState.parse(state) if state else None


@dataclass(frozen=True, slots=True)
class InstanceState:
    """What an instance does at this moment; exit_code and exit_signal (of its last run) are extensions of lxdpy."""

    status: str
    pid: int
    processes: int
    memory_bytes: int
    cpu_ns: int
    addresses: tuple[str, ...]
    exit_code: int | None
    exit_signal: int | None
    started_at: str
    raw: Json

    @classmethod
    def parse(cls, raw: Json) -> "InstanceState":
        """Read a state object."""
        networks = {name: net for name, net in (raw.get("network") or {}).items() if name != "lo"}
        return cls(
            status=raw.get("status") or "",
            pid=raw.get("pid") or 0,
            processes=raw.get("processes") or 0,
            memory_bytes=(raw.get("memory") or {}).get("usage") or 0,
            cpu_ns=(raw.get("cpu") or {}).get("usage") or 0,
            addresses=tuple(
                entry["address"]
                for net in networks.values()
                for entry in net.get("addresses") or ()
                if entry.get("scope") != "link"
            ),
            exit_code=raw.get("exit_code"),
            exit_signal=raw.get("exit_signal"),
            started_at=raw.get("started_at") or "",
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Exit:
    """How an instance's last run ended: code, or the signal that killed its init; both None if nobody knows."""

    status: str
    exit_code: int | None
    exit_signal: int | None

    @classmethod
    def parse(cls, raw: Json) -> "Exit":
        """Read the answer of instances/N/wait."""
        return cls(raw.get("status") or "", raw.get("exit_code"), raw.get("exit_signal"))

    @property
    def shell_code(self) -> int:
        """As a shell has it: 128 + signal; 0 if unknown."""
        return 128 + self.exit_signal if self.exit_signal else self.exit_code or 0


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """A local image."""

    fingerprint: str
    aliases: tuple[str, ...]
    architecture: str
    size: int
    created_at: str
    uploaded_at: str
    properties: Mapping[str, str]
    raw: Json

    @classmethod
    def parse(cls, raw: Json) -> "ImageRecord":
        """Read an image object."""
        return cls(
            fingerprint=raw["fingerprint"],
            aliases=tuple(alias["name"] for alias in raw.get("aliases") or ()),
            architecture=raw.get("architecture") or "",
            size=raw.get("size") or 0,
            created_at=raw.get("created_at") or "",
            uploaded_at=raw.get("uploaded_at") or "",
            properties=raw.get("properties") or {},
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Ancestor:
    """One layer of an image's chain, with the step of its history that made it."""

    chain_id: str
    diff_id: str
    digest: str
    size: int
    created: str
    created_by: str
    raw: Json

    @classmethod
    def parse(cls, raw: Json) -> "Ancestor":
        """Read one entry of images/FP/ancestry."""
        return cls(
            chain_id=raw.get("chain_id") or "",
            diff_id=raw.get("diff_id") or "",
            digest=raw.get("digest") or "",
            size=raw.get("size") or 0,
            created=raw.get("created") or "",
            created_by=raw.get("created_by") or "",
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Event:
    """One message of the event stream; `type` is operation, lifecycle or logging."""

    type: str
    timestamp: str
    metadata: Json
    raw: Json

    @classmethod
    def parse(cls, raw: Json) -> "Event":
        """Read one event."""
        return cls(raw.get("type") or "", raw.get("timestamp") or "", raw.get("metadata") or {}, raw)


class ExecResult(NamedTuple):
    """What a command did; unpacks as pylxd's `exit_code, stdout, stderr`."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class RunResult(NamedTuple):
    """How a whole run of an instance ended, and what it wrote to its console."""

    exit: Exit
    output: bytes
