"""Image configurations (OCI image-spec, config.md).

Values are what the image's author wrote, line breaks and NULs included: who puts one into a file of lines checks it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from lxdpy.errors import InvalidRequestError, RegistryError
from lxdpy.oci.digest import Digest
from lxdpy.oci.document import Fields


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One step of the image's making; an `empty_layer` step has no layer."""

    created: str
    created_by: str
    author: str
    comment: str
    empty_layer: bool


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says of itself: how it runs by default, and its layers' diff_ids, base first."""

    os: str
    architecture: str
    variant: str
    created: str
    env: tuple[str, ...]
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    user: str
    working_dir: str
    stop_signal: str
    exposed_ports: tuple[str, ...]
    volumes: tuple[str, ...]
    labels: Mapping[str, str]
    diff_ids: tuple[Digest, ...]
    history: tuple[HistoryEntry, ...]

    @classmethod
    def parse(cls, data: bytes, layer_count: int | None = None) -> "ImageConfig":
        """Read a config. Raises RegistryError for a malformed one, and for one of other than `layer_count` layers."""
        document = Fields.parse(data, "image config")
        config = document.object("config")
        diff_ids = _diff_ids(document)
        if layer_count is not None and len(diff_ids) != layer_count:
            raise RegistryError(
                f"Invalid image config: it has {len(diff_ids)} diff_ids, and the manifest {layer_count} layers"
            )
        return cls(
            os=document.text("os"),
            architecture=document.text("architecture"),
            variant=document.text("variant"),
            created=document.text("created"),
            env=config.texts("Env"),
            # Old docker wrote a single string, and docker still reads it.
            entrypoint=config.texts("Entrypoint", single=True),
            cmd=config.texts("Cmd", single=True),
            user=config.text("User"),
            working_dir=config.text("WorkingDir"),
            stop_signal=config.text("StopSignal"),
            exposed_ports=config.keys("ExposedPorts"),
            volumes=config.keys("Volumes"),
            labels=config.mapping("Labels"),
            diff_ids=diff_ids,
            history=tuple(_history(step) for step in document.objects("history")),
        )


def _diff_ids(document: Fields) -> tuple[Digest, ...]:
    rootfs = document.object("rootfs")
    if rootfs.text("type") != "layers":
        raise RegistryError(f'Invalid image config: rootfs.type must be "layers", not "{rootfs.text("type"):.100}"')
    try:
        return tuple(Digest.parse(text) for text in rootfs.texts("diff_ids"))
    except InvalidRequestError as exc:
        raise RegistryError(f"Invalid image config: rootfs.diff_ids: {exc}") from exc


def _history(step: Fields) -> HistoryEntry:
    return HistoryEntry(
        created=step.text("created"),
        created_by=step.text("created_by"),
        author=step.text("author"),
        comment=step.text("comment"),
        empty_layer=step.flag("empty_layer"),
    )
