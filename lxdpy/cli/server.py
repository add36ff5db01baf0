"""`lxdpy version`."""

from importlib.metadata import version

from lxdpy.cli.output import Format, line, show_json
from lxdpy.client import AsyncClient, ConnectionFailed


async def show_version(client: AsyncClient, output: Format) -> None:
    """Versions of client and daemon; a daemon that is not there is no error."""
    try:
        environment = (await client.info()).get("environment") or {}
        server = f"{environment.get('server', '')} {environment.get('server_version', '')}".strip()
    except ConnectionFailed:
        server = ""
    if output is Format.JSON:
        show_json({"client": version("lxdpy"), "server": server or None})
        return
    line(f"Client: lxdpy {version('lxdpy')}")
    line(f"Server: {server or 'not reachable'}")
