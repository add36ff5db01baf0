"""base.Containers: start containers, find those that an earlier daemon started."""

import asyncio
import dataclasses
import json
import logging
import os
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from lxdpy.config import Config
from lxdpy.drivers.base import ExitStatus, RunningContainer, StartSpec, StoppedRootfs
from lxdpy.drivers.liblxc import cgroups, limits
from lxdpy.drivers.liblxc.container import QUERY_TIMEOUT_S, Container, Host, Identity, clear, read_exit
from lxdpy.drivers.liblxc.files import LxcFiles, files_request
from lxdpy.drivers.process_end import ProcessEnd
from lxdpy.drivers.zygote import Job, Zygote
from lxdpy.errors import ConflictError, InvalidRequestError, WorkerError
from lxdpy.linux.cgroup import cgroup_mounts
from lxdpy.project import plain_name

logger = logging.getLogger(__name__)

PYTHON = "/usr/bin/python3"
"""The distribution's, which python3-lxc is built for."""

START_TIMEOUT_S = 60.0
MAX_USERNS = 64
WORKER = str(Path(__file__).parents[2] / "workers" / "lifecycle" / "__main__.py")


class LxcContainers:
    """liblxc, through the lifecycle worker. Belongs to one event loop."""

    def __init__(self, config: Config) -> None:
        self._zygote = Zygote("lifecycle", (PYTHON, "-I", "-S", WORKER))
        self._host = Host(self._zygote, asyncio.Semaphore(config.workers.lifecycle), cgroup_mounts())
        self._userns: dict[tuple[int, int], int] = {}
        self._version = ""
        self._cgroups: dict[str, str] = {}
        """One container's cgroup for each parent of cgroups: parents go when the driver is closed and none runs."""

    @property
    def running(self) -> tuple[Container, ...]:
        """The containers that were started or adopted, and are not released yet."""
        return tuple(self._host.running.values())

    async def start(self, spec: StartSpec) -> RunningContainer:
        """Start and wait until it runs."""
        _check(spec)
        if spec.cgroup in self._host.running:
            raise ConflictError(f'Cannot start instance "{plain_name(spec.name)}": it is running')
        identity = Identity(spec.name, spec.lxc_path, spec.directory, spec.cgroup)
        self._cgroups[os.path.dirname(spec.cgroup)] = spec.cgroup
        async with self._host.jobs:
            if cgroups.exists(self._host.mounts, spec.cgroup):
                await self._clear_dead(identity)
            userns = self._userns.get((spec.idmap.base, spec.idmap.size)) if spec.idmap else None
            cpus = self._host.choose_cpus(spec.limits, beside=spec.cgroup)
            limited = (*limits.items(self._host.mounts, spec.limits, cpus), *spec.items)
            request = start_request(dataclasses.replace(spec, items=limited))
            job = await self._zygote.job(request, () if userns is None else (userns,))
            with job:
                container = await self._follow(job, identity)
            container.cpus = cpus
            return container

    async def adopt(self, name: str, lxc_path: str, directory: str, cgroup: str) -> RunningContainer | None:
        """The container as an earlier daemon left it, or None; clears what a dead one left."""
        identity = Identity(name, lxc_path, directory, cgroup)
        self._cgroups[os.path.dirname(cgroup)] = cgroup
        if (running := self._host.running.get(cgroup)) is not None:
            return running
        found = self._recorded(identity)
        if found is None and cgroups.exists(self._host.mounts, cgroup):
            found = await self._find(identity)
        if found is None:
            await self._clear_dead(identity)
        else:
            found.cpus = limits.read_cpus(self._host.mounts, cgroup)
        return found

    async def files(self, rootfs: StoppedRootfs) -> LxcFiles:
        """A session on the files of a container that does not run. Raises WorkerError."""
        async with self._host.jobs:
            return await LxcFiles.begin(rootfs.name, await self._zygote.job(files_request(rootfs)))

    async def last_exit(self, directory: str) -> ExitStatus | None:
        """The exit status that the last monitor wrote, if any."""
        return read_exit(directory)

    async def version(self) -> str:
        """liblxc's version."""
        if not self._version:
            with await self._zygote.job({"job": "version"}) as job:
                message, _ = await job.receive(QUERY_TIMEOUT_S)
            self._version = str(message["version"])
        return self._version

    async def close(self) -> None:
        """End the worker; containers go on."""
        for container in list(self._host.running.values()):
            container.detach()
        self._host.running.clear()
        for fd in self._userns.values():
            os.close(fd)
        self._userns.clear()
        await self._zygote.close()
        await self._host.close()
        for cgroup in self._cgroups.values():
            await asyncio.to_thread(cgroups.remove_parent, self._host.mounts, cgroup)

    async def _follow(self, job: Job, identity: Identity) -> Container:
        """Listen to a start job until the container runs; undo everything when it fails."""
        monitor: tuple[int, ProcessEnd] | None = None
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while True:
                    message, fds = await job.receive()
                    match message:
                        case {"userns": [int(base), int(size)]}:
                            self._remember_userns((base, size), fds[0])
                        case {"monitor": int(pid)}:
                            monitor = (pid, ProcessEnd(fds[0]))
                        case {"running": int(pid), "time": float(started_at)} if monitor is not None:
                            init = ProcessEnd(fds[0]) if fds else None
                            return Container(self._host, identity, (pid, init), monitor, started_at)
                        case _:
                            raise WorkerError(f"The lifecycle worker answered {message!r} to a start")
        except BaseException as exc:
            job.kill()
            if monitor is not None:
                monitor[1].signal(9)
                await monitor[1].wait()
            await asyncio.to_thread(cgroups.remove, self._host.mounts, identity.cgroup, pivot=not self._host.running)
            if isinstance(exc, TimeoutError):
                raise WorkerError(
                    f'Cannot start instance "{plain_name(identity.name)}": '
                    f"it was not running within {START_TIMEOUT_S:g} s"
                ) from exc
            raise

    def _remember_userns(self, key: tuple[int, int], fd: int) -> None:
        """Keep the user namespace of an id map for the next start."""
        if (former := self._userns.pop(key, None)) is not None:
            os.close(former)
        if len(self._userns) >= MAX_USERNS:
            os.close(self._userns.pop(next(iter(self._userns))))
        self._userns[key] = fd

    def _recorded(self, identity: Identity) -> Container | None:
        """The container that run.json names, if it still runs."""
        try:
            record = json.loads(Path(identity.directory, "run.json").read_bytes())
            monitor_pid, init_pid = int(record["monitor"]), int(record["init"])
            monitor = ProcessEnd.of(monitor_pid, int(record["monitor_start"]))
            if monitor is None:
                return None
            init = ProcessEnd.of(init_pid, int(record["init_start"])) if record["init_start"] else None
            return Container(self._host, identity, (init_pid, init), (monitor_pid, monitor), float(record["time"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as exc:
            logger.warning("%s/run.json is damaged: %s", identity.directory, exc)
            return None

    async def _find(self, identity: Identity) -> Container | None:
        """The container that liblxc knows."""
        request = {"job": "find", "name": identity.name, "lxc_path": identity.lxc_path}
        async with self._host.jobs:
            with await self._zygote.job(request) as job:
                message, fds = await job.receive(QUERY_TIMEOUT_S)
        match message:
            case {"init": int(init), "monitor": int(monitor)}:
                return Container(
                    self._host,
                    identity,
                    (init, ProcessEnd(fds[0])),
                    (monitor, ProcessEnd(fds[1])),
                    _started_at(init),
                )
        return None

    async def _clear_dead(self, identity: Identity) -> None:
        """Remove what a container left that ended while no daemon looked."""
        await asyncio.to_thread(clear, self._host.mounts, identity, pivot=not self._host.running)


def _started_at(pid: int) -> float:
    """When a process started, about; now, if it has ended since somebody saw it."""
    try:
        return os.stat(f"/proc/{pid}").st_mtime
    except FileNotFoundError:
        return time.time()


def start_request(spec: StartSpec) -> dict[str, object]:
    """The start job, as workers/lifecycle/start.py reads it."""
    return {
        "job": "start",
        "name": spec.name,
        "lxc_path": spec.lxc_path,
        "directory": spec.directory,
        "rw": spec.rw,
        "lowers": [(lower.kind, lower.path) for lower in spec.lowers],
        "idmap": (spec.idmap.base, spec.idmap.size) if spec.idmap else None,
        "cgroup": spec.cgroup,
        "items": spec.items,
        "argv": spec.argv,
        "environment": spec.environment,
        "user": spec.user,
        "cwd": spec.cwd,
        "init": spec.init,
        "files": [(file.source, file.target) for file in spec.files],
        "disks": [asdict(disk) for disk in spec.disks],
        "system": spec.system,
        "templates": [(file.target, file.text, file.create_only) for file in spec.templates],
    }


def _check(spec: StartSpec) -> None:
    """Refuse what must not reach liblxc. Raises InvalidRequestError."""
    attempt = f'Cannot start instance "{plain_name(spec.name)}"'
    if not spec.argv or not spec.argv[0]:
        raise InvalidRequestError(f"{attempt}: it has no command")
    for key, value in spec.items:
        if not set(key + value).isdisjoint("\0\n\r"):
            raise InvalidRequestError(f"{attempt}: {key} has a line break or NUL in it")
    for key, value in spec.environment:
        if not key or "=" in key or not _plain(key) or "\0" in value:
            raise InvalidRequestError(f"{attempt}: invalid environment variable {key!r}")
    for text in (*spec.argv, spec.user, *_targets(spec)):
        if "\0" in text:
            raise InvalidRequestError(f"{attempt}: NUL in {text!r}")
    if not _plain(spec.cwd) or not _plain(spec.name):
        raise InvalidRequestError(f"{attempt}: line break or NUL in directory {spec.cwd!r}")


def _plain(text: str) -> bool:
    return set(text).isdisjoint("\0\n\r")


def _targets(spec: StartSpec) -> Iterable[str]:
    yield from (file.target for file in spec.files)
    yield from (file.target for file in spec.templates)
    yield from (text for disk in spec.disks for text in (disk.source, disk.target))
