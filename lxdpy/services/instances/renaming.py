"""Another name for an instance.

The row comes first. The directory follows it, at the latest when the next daemon starts: the row names the writable
layer, and no other directory holds that (InstanceDirectories.recover).
"""

import dataclasses
from collections.abc import Callable

from lxdpy.db.instances import InstanceRecord
from lxdpy.errors import InvalidRequestError
from lxdpy.services.instances.directory import InstanceDirectories
from lxdpy.services.instances.roster import Roster, Snapshots
from lxdpy.services.instances.runtime import Runtime
from lxdpy.services.instances.templates import APPLY, new_instance_id
from lxdpy.services.networks import NetworkService
from lxdpy.services.uninterrupted import uninterrupted


async def rename(
    roster: Roster,
    directories: InstanceDirectories,
    networks: NetworkService,
    renamed: Callable[[str, str], None],
    name: str,
    new_name: str,
    *,
    instance_only: bool,
) -> None:
    """Rename a stopped instance to a name that nobody else has; with `instance_only` its snapshots go.

    `renamed(name, new_name)` is called in the moment in which it has the other name.

    Raises NotFoundError, InvalidRequestError when it runs, WorkerError.
    """
    async with roster.held(name) as runtime:
        if runtime.container is not None:
            raise InvalidRequestError("Renaming of running container not allowed")
        await runtime.cleared()
        await uninterrupted(_rename(roster, directories, networks, renamed, runtime, new_name))
        if instance_only:
            await roster.rewrite(runtime, lambda record, snapshots: (record, ()))


async def _rename(
    roster: Roster,
    directories: InstanceDirectories,
    networks: NetworkService,
    renamed: Callable[[str, str], None],
    runtime: Runtime,
    new_name: str,
) -> None:
    name = runtime.record.name
    await roster.rewrite(runtime, _named(new_name))
    try:
        directories.rename(name, new_name)
    except BaseException:
        await roster.rewrite(runtime, _named(name))
        raise
    renamed(name, new_name)
    await networks.rename_instance(name, new_name)


def _named(name: str) -> Callable[[InstanceRecord, Snapshots], tuple[InstanceRecord, Snapshots]]:
    def change(record: InstanceRecord, snapshots: Snapshots) -> tuple[InstanceRecord, Snapshots]:
        renamed = tuple(snapshot.of(name) for snapshot in snapshots)
        config = {**record.config, **new_instance_id()}
        if record.config_digest is None:
            # A system's templates are filled in for the new name, at the latest by what is due already.
            config.setdefault(APPLY, "rename")
        return dataclasses.replace(record, name=name, config=config), renamed

    return change
