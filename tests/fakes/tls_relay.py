"""Run a command beside TLS in front of a unix socket, on a loopback of their own: for clients who insist on https.

python tls_relay.py CERTIFICATE KEY PORT SOCKET COMMAND [ARGUMENT]...
"""

import asyncio
import ssl
import subprocess
import sys

_UNSHARE = ("unshare", "--net")


def inside(certificate: str, key: str, port: int, socket: str, *command: str) -> tuple[str, ...]:
    """The command line that runs `command` where each TLS connection to 127.0.0.1:`port` reaches `socket`."""
    return (*_UNSHARE, sys.executable, __file__, certificate, key, str(port), socket, *command)


async def _main(certificate: str, key: str, port: str, socket: str, *command: str) -> int:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        their_reader, their_writer = await asyncio.open_unix_connection(socket)
        await asyncio.gather(_pump(reader, their_writer), _pump(their_reader, writer))

    async with await asyncio.start_server(relay, "127.0.0.1", int(port), ssl=context):
        process = await asyncio.create_subprocess_exec(*command)
        return await process.wait()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


if __name__ == "__main__":
    subprocess.run(("ip", "link", "set", "lo", "up"), check=True)
    sys.exit(asyncio.run(_main(*sys.argv[1:])))
