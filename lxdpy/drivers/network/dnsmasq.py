"""base.LeaseServer by dnsmasq: one process per bridge, which outlives the daemon.

STATE/networks/NETWORK/         0711
    dnsmasq.conf                what it runs with; one that runs with another is replaced
    dnsmasq.pid dnsmasq.leases
    dhcp/ADDRESS                whose address it is   } one file a host: dnsmasq sees new ones by inotify, and reads all
    names/ADDRESS               what it is called     } again when it is told of those that went

dnsmasq drops root for a user of its own, keeping the capabilities it needs. It logs to syslog, which bounds what a
container can make it say.
"""

import asyncio
import contextlib
import ipaddress
import logging
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxdpy.drivers.base import ServedHost, ServedNetwork
from lxdpy.drivers.network import dhcp_release, dnsmasq_conf
from lxdpy.drivers.process_end import ProcessEnd
from lxdpy.errors import WorkerError

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0
_RELOAD_AFTER_S = 0.05
_MAX_PAUSE_S = 60.0
_SEARCH_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_USERS = ("dnsmasq", "nobody")

Hosts = Callable[[], Iterable[ServedHost]]


@dataclass(slots=True)
class _Served:
    network: ServedNetwork
    link_index: int
    hosts: Hosts
    process: ProcessEnd
    reload: asyncio.TimerHandle | None = None


class Dnsmasq:
    """DHCP and DNS of every managed bridge. Belongs to one event loop."""

    def __init__(self, state_dir: Path) -> None:
        self._root = state_dir / "networks"
        self._served: dict[str, _Served] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}
        """Of what is served, and of what has ended and can't be started again yet."""
        self._lock = asyncio.Lock()

    async def serve(self, network: ServedNetwork, hosts: Hosts) -> None:
        """Have one network served as wanted. Raises WorkerError."""
        name = network.bridge.name
        served = self._served.get(name)
        if (
            served is not None
            and served.network == network
            and not served.process.ended
            and served.link_index == _link_index(name)
        ):
            return
        # To its end, whoever stops waiting: what runs and what is known of it must not part.
        await asyncio.shield(asyncio.create_task(self._begin(network, hosts, 0)))

    async def add(self, network: str, host: ServedHost) -> None:
        """Serve one more host. Raises WorkerError."""
        async with self._lock:
            served = self._served.get(network)
            if served is None:
                return
            try:
                replaced = await asyncio.to_thread(_write_host, self._directory(network), served.network, host)
                if replaced:
                    await asyncio.to_thread(_release, self._directory(network), served.network, {host.address: host})
                    self._reload_soon(served)
            except OSError as exc:
                raise WorkerError(f'Cannot serve host "{host.name}" on network "{network}": {exc}') from exc

    async def remove(self, network: str, host: ServedHost) -> None:
        """Serve a host no more."""
        async with self._lock:
            await asyncio.to_thread(_remove_host, self._directory(network), host.address)
            served = self._served.get(network)
            if served is None:
                return
            try:
                await asyncio.to_thread(_release, self._directory(network), served.network, {host.address: None})
            except OSError as exc:
                logger.error(
                    "Cannot free address %s on network %s before its lease is over: %s", host.address, network, exc
                )
            self._reload_soon(served)

    async def stop(self, network: str) -> None:
        """End the process and remove its files."""
        async with self._lock:
            self._forget(network)
            await asyncio.to_thread(self._stop, network)

    async def sweep(self, known: Iterable[str]) -> None:
        """Stop what serves none of the `known` networks."""
        try:
            names = set(await asyncio.to_thread(os.listdir, self._root)) - set(known)
        except FileNotFoundError:
            return
        for name in names:
            logger.info("Stopping dnsmasq of network %s, left by an earlier daemon", name)
            await self.stop(name)

    async def close(self) -> None:
        """Look no more after the processes."""
        for name in self._served.keys() | self._watchers.keys():
            self._forget(name)

    # ---- in threads

    def _start(self, network: ServedNetwork, hosts: list[ServedHost]) -> tuple[int, int]:
        """A pidfd of the process that serves as wanted, which may run already, and the index of its interface."""
        name = network.bridge.name
        directory = self._directory(name)
        for part in (self._root, directory, directory / "dhcp", directory / "names"):
            part.mkdir(exist_ok=True)
            # Its own user looks in here; what is in it is no secret to this host's users.
            part.chmod(0o755 if part.parent == directory else 0o711)
        index = socket.if_nametoindex(name)
        wanted = dnsmasq_conf.configuration(network, index, str(directory), _user())
        path = directory / "dnsmasq.conf"
        replaced = _synchronize(directory, network, hosts)
        pidfd = self._running(name)
        if pidfd is not None:
            if path.exists() and path.read_text() == wanted:
                if replaced:
                    _release(directory, network, {host.address: host for host in hosts}, strangers=True)
                    signal.pidfd_send_signal(pidfd, signal.SIGHUP)
                return pidfd, index
            _end(pidfd)
        _write(path, wanted)
        _run(path, name)
        pidfd = self._running(name)
        if pidfd is None:
            raise WorkerError(f'Cannot serve network "{name}": dnsmasq ended at once; the host\'s log says why')
        logger.info("Started dnsmasq on network %s", name)
        return pidfd, index

    def _stop(self, name: str) -> None:
        pidfd = self._running(name)
        if pidfd is not None:
            _end(pidfd)
        shutil.rmtree(self._directory(name), ignore_errors=True)
        with contextlib.suppress(OSError):
            self._root.rmdir()

    def _running(self, name: str) -> int | None:
        """A pidfd of the process that the pid file names, if it is the one that serves this network."""
        directory = self._directory(name)
        try:
            pid = int((directory / "dnsmasq.pid").read_text())
            pidfd = os.pidfd_open(pid)
        except (FileNotFoundError, ValueError, ProcessLookupError):
            return None
        # Read after the pidfd was opened: it is of the process that the pidfd holds.
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            words = []
        if _conf_option(directory / "dnsmasq.conf").encode() not in words:
            os.close(pidfd)
            return None
        return pidfd

    # ---- in the event loop

    def _directory(self, name: str) -> Path:
        return self._root / name

    def _forget(self, name: str) -> None:
        watcher = self._watchers.pop(name, None)
        if watcher is not None and watcher is not asyncio.current_task():
            watcher.cancel()
        served = self._served.pop(name, None)
        if served is not None:
            if served.reload is not None:
                served.reload.cancel()
            served.process.close()

    async def _begin(self, network: ServedNetwork, hosts: Hosts, attempt: int) -> None:
        """Serve as wanted; when that fails it is tried again, after ever longer pauses. Raises WorkerError."""
        name = network.bridge.name
        async with self._lock:
            self._forget(name)
            try:
                pidfd, index = await asyncio.to_thread(self._start, network, list(hosts()))
            except (OSError, WorkerError) as exc:
                self._look_after(name, self._again(network, hosts, attempt))
                if isinstance(exc, WorkerError):
                    raise
                raise WorkerError(f'Cannot serve network "{name}": {exc}') from exc
            served = self._served[name] = _Served(network, index, hosts, ProcessEnd(pidfd))
            self._look_after(name, self._watch(served))

    def _look_after(self, name: str, job: Coroutine[Any, Any, None]) -> None:
        self._watchers[name] = asyncio.create_task(job, name=f"look after dnsmasq of {name}")

    async def _watch(self, served: _Served) -> None:
        """Start a process again that has ended by itself."""
        await served.process.wait()
        logger.warning("dnsmasq of network %s has ended", served.network.bridge.name)
        await self._again(served.network, served.hosts, 0)

    async def _again(self, network: ServedNetwork, hosts: Hosts, attempt: int) -> None:
        await asyncio.sleep(min(2.0**attempt, _MAX_PAUSE_S))
        try:
            await self._begin(network, hosts, attempt + 1)
        except WorkerError as exc:
            logger.error("%s", exc)

    def _reload_soon(self, served: _Served) -> None:
        """Have hosts read again, once for all that go at about the same time."""
        if served.reload is None:
            served.reload = asyncio.get_running_loop().call_later(_RELOAD_AFTER_S, self._reload, served)

    def _reload(self, served: _Served) -> None:
        served.reload = None
        served.process.signal(signal.SIGHUP)


def _link_index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def _user() -> str:
    for name in _USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise WorkerError(f"Cannot run dnsmasq: this host has no user {' or '.join(_USERS)}")


def _conf_option(path: Path) -> str:
    return f"--conf-file={path}"


def _run(path: Path, name: str) -> None:
    """Start dnsmasq, which is ready once the process that we started has ended. Raises WorkerError."""
    program = shutil.which("dnsmasq", path=_SEARCH_PATH)
    if program is None:
        raise WorkerError(f'Cannot serve network "{name}": dnsmasq is not installed (package dnsmasq-base)')
    try:
        done = subprocess.run(
            (program, _conf_option(path)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=START_TIMEOUT_S,
            check=False,
            cwd="/",
        )
    except subprocess.TimeoutExpired as exc:
        raise WorkerError(f'Cannot serve network "{name}": dnsmasq was not ready in {START_TIMEOUT_S:g} s') from exc
    if done.returncode != 0:
        said = " ".join(done.stderr.decode(errors="replace").split())
        raise WorkerError(f'Cannot serve network "{name}": {said or f"dnsmasq ended with status {done.returncode}"}')


def _end(pidfd: int) -> None:
    """End a process, and close its pidfd."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    try:
        for signo in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(pidfd, signo)
            if poll.poll(STOP_TIMEOUT_S * 1000):
                return
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


# -------------------------------------------------------------------- hosts


def _files(network: ServedNetwork, host: ServedHost) -> dict[str, str]:
    files = {f"dhcp/{host.address}": dnsmasq_conf.dhcp_host(network, host)}
    if network.dns == "managed":
        files[f"names/{host.address}"] = dnsmasq_conf.host_name(network, host)
    return files


def _write_host(directory: Path, network: ServedNetwork, host: ServedHost) -> bool:
    """Write a host's files; whether they took the place of others, which dnsmasq would go by until it reads again."""
    replaced = False
    for name, text in _files(network, host).items():
        path = directory / name
        try:
            if path.read_text() == text:
                continue
            replaced = True
        except FileNotFoundError:
            pass
        _write(path, text)
    return replaced


def _remove_host(directory: Path, address: str) -> None:
    for part in ("dhcp", "names"):
        (directory / part / address).unlink(missing_ok=True)


def _release(
    directory: Path, network: ServedNetwork, hosts: Mapping[str, ServedHost | None], *, strangers: bool = False
) -> None:
    """Give back the leases of addresses that are another host's by now, or none's; `strangers`: also of those that are
    not among `hosts`. Raises OSError."""
    try:
        text = (directory / "dnsmasq.leases").read_text()
    except FileNotFoundError:
        return
    if not network.bridge.ipv4_address:
        return
    server = str(ipaddress.IPv4Interface(network.bridge.ipv4_address).ip)
    for lease in dhcp_release.parse(text):
        if lease.address in hosts or strangers:
            host = hosts.get(lease.address)
            if host is None or host.hwaddr != lease.hwaddr:
                dhcp_release.release(lease, server, network.bridge.name)


def _synchronize(directory: Path, network: ServedNetwork, hosts: Iterable[ServedHost]) -> bool:
    """Have exactly these hosts in the directories; whether any changed or went."""
    wanted: dict[str, str] = {}
    for host in hosts:
        wanted |= _files(network, host)
    replaced = any([_write_host(directory, network, host) for host in hosts])
    for part in ("dhcp", "names"):
        for name in os.listdir(directory / part):
            if f"{part}/{name}" not in wanted:
                (directory / part / name).unlink()
                replaced = True
    return replaced


def _write(path: Path, text: str) -> None:
    # dnsmasq reads no names that begin with a dot.
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(text)
    temporary.chmod(0o644)
    temporary.rename(path)
