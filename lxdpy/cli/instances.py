"""What the instance commands do."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from lxdpy.cli.output import Format, age, line, note, show_fields, show_json, show_table, size
from lxdpy.cli.progress import short
from lxdpy.cli.session import each, follow
from lxdpy.client import AsyncClient, AsyncInstance, Exit, InstanceState, LXDError, NotFound
from lxdpy.client.requests import CreateOptions


async def create(
    client: AsyncClient, image: str, name: str | None, *, server: str | None, options: CreateOptions
) -> AsyncInstance:
    """Create with progress shown."""
    try:
        operation = await client.instances.begin_create(image, name, server=server, **options)
        record = await follow(operation)
    except LXDError as exc:
        if await _is_here(client, image):
            exc.add_note(f"An image here has that name: local:{image}")
        raise
    return await client.instances.get(record.resource("instances", "containers") or name or "")


async def _is_here(client: AsyncClient, image: str) -> bool:
    """Whether a name that was taken for a registry's is the alias of an image here, such as an imported one."""
    if ":" in image or "/" in image:
        return False
    try:
        await client.images.get(image)
    except LXDError:
        return False
    return True


async def init(
    client: AsyncClient, image: str, name: str | None, *, server: str | None, options: CreateOptions
) -> int | None:
    """Create and print the name."""
    line((await create(client, image, name, server=server, options=options)).name)
    return None


async def launch(
    client: AsyncClient, image: str, name: str | None, *, server: str | None, attach: bool, options: CreateOptions
) -> int | None:
    """Create and start; print the name, or with `attach` the output until it stops."""
    remove = ephemeral = options.get("ephemeral", False)
    if attach:
        # The server would delete it, and its exit code, the moment it stops; we do that once we have read both.
        options = {**options, "ephemeral": False}
    instance = await create(client, image, name, server=server, options=options)
    try:
        try:
            await instance.start()
        except LXDError as exc:
            if not ephemeral:
                exc.add_note(f"The instance stays, stopped: lxdpy delete {instance.name}")
            raise
        # Started, an ephemeral instance is the server's to delete, unless we read its end.
        remove = ephemeral and attach
        if not attach:
            line(instance.name)
            return None
        await _copy_console(instance, follow=True, tail=None)
        return (await instance.wait()).shell_code
    except asyncio.CancelledError:
        if not remove:
            note(f"The instance goes on: lxdpy stop {instance.name}")
        raise
    finally:
        if remove:
            with suppress(NotFound):
                await instance.delete(force=True)


async def show_list(client: AsyncClient, output: Format) -> None:
    """All instances."""
    found = sorted(await client.instances.list(), key=lambda instance: instance.name)
    if output is Format.JSON:
        show_json([instance.record.raw for instance in found])
        return
    show_table(
        ("NAME", "STATUS", "ADDRESS", "IMAGE", "CREATED"),
        [
            (
                instance.name,
                _status(instance.status, instance.record.state),
                ", ".join(instance.record.state.addresses) if instance.record.state else "",
                _image(instance.record.config),
                age(instance.record.created_at),
            )
            for instance in found
        ],
    )


async def info(client: AsyncClient, name: str, output: Format) -> None:
    """One instance."""
    instance = await client.instances.get(name)
    raw = await instance.info()
    if output is Format.JSON:
        show_json(raw)
        return
    record, state = instance.record, await instance.state()
    show_fields(
        [
            ("Name", record.name),
            ("Status", _status(state.status, state)),
            ("Type", f"{record.type} (ephemeral)" if record.ephemeral else record.type),
            ("Architecture", record.architecture),
            ("Image", _image(record.config)),
            ("Created", record.created_at),
            ("Started", state.started_at),
            ("PID", state.pid or ""),
            ("Processes", state.processes or ""),
            ("Memory", size(state.memory_bytes) if state.memory_bytes else ""),
            ("CPU", f"{state.cpu_ns / 1e9:.2f} s" if state.cpu_ns else ""),
            ("Addresses", ", ".join(state.addresses)),
            ("Profiles", ", ".join(record.profiles)),
        ]
    )
    settings = {key: value for key, value in record.config.items() if not key.startswith(("volatile.", "image."))}
    if settings:
        line("Config:")
        for key, value in sorted(settings.items()):
            line(f"  {key}: {value}")
    for device, keys in sorted(record.devices.items()):
        line(f"Device {device}: {', '.join(f'{key}={value}' for key, value in sorted(keys.items()))}")


async def change(client: AsyncClient, names: Sequence[str], verb: str, **arguments: Any) -> int:
    """Do `verb` to each; all are tried, and 1 is returned if one failed."""

    async def act(name: str) -> None:
        instance = await client.instances.get(name)
        try:
            await getattr(instance, verb)(**arguments)
        except LXDError as exc:
            if verb == "delete" and instance.status != "Stopped":
                exc.add_note("Stop it first, or delete it with --force.")
            raise

    return await each(names, act)


async def logs(client: AsyncClient, name: str, *, follow: bool, tail: int | None) -> None:
    """The console's bytes as they are."""
    await _copy_console(await client.instances.get(name), follow=follow, tail=tail)


async def wait(client: AsyncClient, name: str, *, timeout_s: float | None, output: Format) -> None:
    """Wait for the end and print the exit code."""
    ended = await (await client.instances.get(name)).wait(timeout_s)
    if output is Format.JSON:
        show_json({"status": ended.status, "exit_code": ended.exit_code, "exit_signal": ended.exit_signal})
    else:
        line(str(ended.shell_code))


async def _copy_console(instance: AsyncInstance, *, follow: bool, tail: int | None) -> None:
    if not follow:
        sys.stdout.buffer.write(await instance.logs(tail=tail))
        return
    async for piece in instance.follow(tail=tail):
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


def _status(status: str, state: InstanceState | None) -> str:
    """`Running`, `Stopped (1)`, `Stopped (signal 9)`."""
    if status == "Running" or state is None or (state.exit_code is None and state.exit_signal is None):
        return status
    ended = Exit(status, state.exit_code, state.exit_signal)
    return f"{status} (signal {ended.exit_signal})" if ended.exit_signal else f"{status} ({ended.exit_code})"


def _image(config: Mapping[str, str]) -> str:
    """What it was made of, in the words at hand."""
    base = config.get("volatile.base_image", "")
    return config.get("image.id") or config.get("image.description") or short(base)
