#!/usr/bin/python3
"""A token service for a registry with `auth: token`, as the big registries run one. For demos and tests, on loopback.

    python3 deploy/token_server.py --directory DIR [--port N] [--user NAME:PASSWORD]

    GET /token?service=S&scope=repository:NAME:pull,push -> {"token": "<RS256 JWT>", "expires_in": 300, ...}

Everybody may pull; only the user may push and delete. DIR gets a private key and its certificate, which the registry
takes as `rootcertbundle`. Standard library and the `openssl` command only.
"""

import argparse
import base64
import binascii
import hmac
import json
import ssl
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

ISSUER = "lxdpy-example-issuer"
SERVICE = "lxdpy-example-registry"

Json = dict[str, Any]


class Signer:
    """An RSA key with a self-signed certificate, kept in `directory`, and RS256 by the `openssl` command."""

    def __init__(self, directory: Path) -> None:
        self.certificate = directory / "token.crt"
        self._key = directory / "token.key"
        if not (self.certificate.exists() and self._key.exists()):
            directory.mkdir(parents=True, exist_ok=True)
            # fmt: off
            _openssl(
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256", "-days", "30", "-subj", f"/CN={ISSUER}",
                "-keyout", str(self._key), "-out", str(self.certificate),
            )
            # fmt: on
            self._key.chmod(0o600)
        der = ssl.PEM_cert_to_DER_cert(self.certificate.read_text(encoding="ascii"))
        self._header: Json = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}

    def jwt(self, claims: Json) -> str:
        """The claims as a signed JSON web token. Raises RuntimeError when openssl fails."""
        signed = f"{_b64url(_compact(self._header))}.{_b64url(_compact(claims))}"
        signature = _openssl("dgst", "-sha256", "-sign", str(self._key), stdin=signed.encode())
        return f"{signed}.{_b64url(signature)}"


class TokenServer:
    """The service on 127.0.0.1; a context manager that serves from a thread while it is open.

    `user` and `password` are what a push needs. `lifetime_s` is how long a token is valid.
    """

    def __init__(
        self, signer: Signer, *, user: str = "demo", password: str = "demo", lifetime_s: int = 300, port: int = 0
    ) -> None:
        self.signer = signer
        self.user = user
        self.password = password
        self.lifetime_s = lifetime_s
        self._server = _Server(("127.0.0.1", port), self)
        self.realm = f"http://127.0.0.1:{self._server.server_port}/token"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="token-server")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def configuration(self) -> Json:
        """The registry's `auth` section that makes it trust this service."""
        return {
            "token": {
                "realm": self.realm,
                "service": SERVICE,
                "issuer": ISSUER,
                "rootcertbundle": str(self.signer.certificate),
            }
        }

    def grant(self, scopes: Sequence[str], service: str, user: str | None) -> Json:
        """The answer to a request for `scopes`: a token for the part of them that `user` (None: anybody) may have."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": user or "",
            "aud": service,
            "nbf": now - 10,
            "iat": now,
            "exp": now + self.lifetime_s,
            "jti": str(uuid.uuid4()),
            "access": [access for scope in scopes if (access := _access(scope, may_write=user is not None))],
        }
        token = self.signer.jwt(claims)
        issued = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        return {"token": token, "access_token": token, "expires_in": self.lifetime_s, "issued_at": issued}

    def authenticate(self, header: str | None) -> str | None:
        """The user of an Authorization header; None without one. Raises PermissionError for wrong credentials."""
        if header is None:
            return None
        scheme, _, value = header.partition(" ")
        try:
            credentials = base64.b64decode(value, validate=True)
        except binascii.Error:
            credentials = b""
        wanted = f"{self.user}:{self.password}".encode()
        if scheme.lower() != "basic" or not hmac.compare_digest(credentials, wanted):
            raise PermissionError("wrong user name or password")
        return self.user


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], tokens: TokenServer) -> None:
        super().__init__(address, _Handler)
        self.tokens = tokens


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path != "/token":
            self._answer(404, {"details": f"no such resource: {url.path}"})
            return
        query = parse_qs(url.query)
        try:
            user = self.server.tokens.authenticate(self.headers.get("Authorization"))
        except PermissionError as exc:
            self._answer(401, {"details": str(exc)})
            return
        scopes = [scope for value in query.get("scope", []) for scope in value.split()]
        self._answer(200, self.server.tokens.grant(scopes, query.get("service", [SERVICE])[0], user))

    def _answer(self, status: int, document: Json) -> None:
        body = _compact(document)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == 401:
            self.send_header("WWW-Authenticate", f'Basic realm="{SERVICE}"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: the query holds nothing that anybody misses."""


def _access(scope: str, *, may_write: bool) -> Json | None:
    """One entry of a token's `access` from `type:name:action,action`; the name may hold colons."""
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    granted = [action for action in actions.split(",") if may_write or action == "pull"]
    if kind != "repository" or not name or not granted:
        return None
    return {"type": kind, "name": name, "actions": granted}


def _compact(document: Json) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _openssl(*arguments: str, stdin: bytes = b"") -> bytes:
    done = subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {arguments[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def main() -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="Token service on loopback for a registry with `auth: token`.")
    parser.add_argument("--directory", type=Path, required=True, help="for the key and its certificate")
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    parser.add_argument("--user", default="demo:demo", metavar="NAME:PASSWORD", help="who may push (%(default)s)")
    parser.add_argument("--lifetime", type=int, default=300, metavar="SECONDS", help="of a token (%(default)s)")
    options = parser.parse_args()
    user, _, password = options.user.partition(":")
    signer = Signer(options.directory)
    with TokenServer(signer, user=user, password=password, lifetime_s=options.lifetime, port=options.port) as server:
        print(json.dumps({"auth": server.configuration()}, indent=2), flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
