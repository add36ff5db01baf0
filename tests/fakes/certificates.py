"""A CA and what it signs, made with the openssl command; good for one day and for 127.0.0.1."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path

    def server_context(self, *, ask_client: bool = False) -> ssl.SSLContext:
        """The TLS context of a server, which may want to see a client certificate of this CA."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server, self.server_key)
        if ask_client:
            context.verify_mode = ssl.CERT_REQUIRED
            # Before 1.3 a refusal is part of the handshake; asyncio's servers drop the alert of a later one.
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.load_verify_locations(self.ca)
        return context


def make(directory: Path) -> Certificates:
    """Write a new CA, a server's and a client's certificate into `directory`."""
    ca, ca_key = directory / "ca.crt", directory / "ca.key"
    _openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"),
        *("-subj", "/CN=lxdpy test CA", "-keyout", ca_key, "-out", ca),
    )
    for name in ("server", "client"):
        key, request = directory / f"{name}.key", directory / f"{name}.csr"
        _openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-subj", f"/CN={name}", "-keyout", key, "-out", request),
        )
        extensions = directory / f"{name}.ext"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        _openssl(
            *("x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "1"),
            *("-extfile", extensions, "-out", directory / f"{name}.cert"),
        )
    return Certificates(
        ca, directory / "server.cert", directory / "server.key", directory / "client.cert", directory / "client.key"
    )


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(("openssl", *arguments), check=True, capture_output=True)
