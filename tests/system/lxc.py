"""LXD's own client, unmodified: `lxc` with LXD_DIR pointed at a daemon's state directory and nothing else changed."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

_TIMEOUT_S = 100.0


class Lxc:
    """Runs `lxc` with a configuration of its own below `home`, as a new user would."""

    def __init__(self, state_dir: Path, home: Path) -> None:
        home.mkdir(exist_ok=True)
        self.home = home
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(("LXD_", "LXDPY_"))}
        self.environment |= {"LXD_DIR": str(state_dir), "LXD_CONF": str(home / "lxc"), "HOME": str(home)}
        # It greets whoever has no configuration yet.
        self.run("remote", "list")

    def run(self, *arguments: str, stdin: bytes = b"", timeout_s: float = _TIMEOUT_S) -> "Result":
        """Run `lxc ARGUMENTS` to its end, whatever that is; stdin is `stdin`, no terminal."""
        done = subprocess.run(
            ("lxc", *arguments),
            input=stdin,
            capture_output=True,
            env=self.environment,
            timeout=timeout_s,
            check=False,
        )
        return Result(arguments, done.returncode, done.stdout, done.stderr.decode(errors="replace"))

    def ok(self, *arguments: str, stdin: bytes = b"") -> str:
        """What `lxc ARGUMENTS` prints on stdout; it must succeed."""
        result = self.run(*arguments, stdin=stdin)
        assert result.code == 0, result
        return result.stdout.decode(errors="replace")

    def fails(self, *arguments: str, stdin: bytes = b"") -> str:
        """What `lxc ARGUMENTS` complains of on stderr; it must exit with 1."""
        result = self.run(*arguments, stdin=stdin)
        assert result.code == 1, result
        return result.stderr

    def json(self, *arguments: str) -> Any:
        """What a list prints with `--format json`."""
        return json.loads(self.ok(*arguments, "--format", "json"))

    def yaml(self, *arguments: str) -> Any:
        """What a `show` prints."""
        return yaml.safe_load(self.ok(*arguments))

    def query(self, path: str, method: str = "GET", data: object = None) -> Any:
        """`lxc query`: the answer's metadata; waits for operations."""
        body = () if data is None else ("--data", json.dumps(data))
        text = self.ok("query", "--wait", "--request", method, *body, path)
        return json.loads(text) if text.strip() else None


class Result:
    """How one run of `lxc` ended."""

    def __init__(self, arguments: tuple[str, ...], code: int, stdout: bytes, stderr: str) -> None:
        self.arguments = arguments
        self.code = code
        self.stdout = stdout
        self.stderr = stderr

    def __repr__(self) -> str:
        return f"lxc {' '.join(self.arguments)}: exit code {self.code}\n{self.stdout[-2000:]!r}\n{self.stderr[-2000:]}"
