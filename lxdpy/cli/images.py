"""What the image and operation commands do."""

from lxdpy.cli.output import Format, age, line, show_fields, show_json, show_table, size
from lxdpy.cli.progress import short
from lxdpy.cli.session import each, follow
from lxdpy.client import AsyncClient, ImageRecord


async def pull(client: AsyncClient, reference: str, *, server: str | None) -> None:
    """Pull with progress shown; print the fingerprint."""
    record = await follow(await client.images.begin_pull(reference, server=server))
    line(str(record.metadata["fingerprint"]))


async def show_list(client: AsyncClient, output: Format) -> None:
    """All local images."""
    records = [image.record for image in await client.images.list()]
    if output is Format.JSON:
        show_json([record.raw for record in records])
        return
    show_table(
        ("FINGERPRINT", "NAME", "ARCHITECTURE", "SIZE", "UPLOADED"),
        [(short(r.fingerprint), _name(r), r.architecture, size(r.size), age(r.uploaded_at)) for r in records],
    )


async def info(client: AsyncClient, name: str, output: Format) -> None:
    """One image."""
    record = (await client.images.get(name)).record
    if output is Format.JSON:
        show_json(record.raw)
        return
    show_fields(
        [
            ("Fingerprint", record.fingerprint),
            ("Name", _name(record)),
            ("Architecture", record.architecture),
            ("Size", size(record.size)),
            ("Created", record.created_at),
            ("Uploaded", record.uploaded_at),
        ]
    )
    for key, value in sorted(record.properties.items()):
        line(f"  {key}: {value}")


async def ancestry(client: AsyncClient, name: str, output: Format) -> None:
    """The layers below an image, newest first."""
    chain = await (await client.images.get(name)).ancestry()
    if output is Format.JSON:
        show_json([layer.raw for layer in chain])
        return
    show_table(
        ("CHAIN ID", "DIFF ID", "SIZE", "CREATED", "CREATED BY"),
        [(short(a.chain_id), short(a.diff_id), size(a.size), age(a.created), a.created_by) for a in chain],
    )


async def delete(client: AsyncClient, names: list[str]) -> int:
    """Delete each; all are tried, and 1 is returned if one failed."""

    async def act(name: str) -> None:
        await (await client.images.get(name)).delete()

    return await each(names, act)


async def show_operations(client: AsyncClient, output: Format) -> None:
    """Operations that run or ended just now."""
    records = [operation.record for operation in await client.operations.list()]
    if output is Format.JSON:
        show_json([record.raw for record in records])
        return
    show_table(
        ("ID", "STATUS", "DESCRIPTION", "PROGRESS", "CREATED"),
        [(r.id, r.status, r.description, r.err or r.progress, age(r.created_at)) for r in records],
    )


async def cancel_operation(client: AsyncClient, id: str) -> None:
    """Cancel one operation."""
    await (await client.operations.get(id)).cancel()


def _name(record: ImageRecord) -> str:
    """Its aliases, else what it says of itself."""
    return ", ".join(record.aliases) or record.properties.get("description", "")
