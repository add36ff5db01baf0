"""What api/compatibility.md says of LXD's client and of LXD's endpoints, by running the client.

    | `COMMAND`, `COMMAND *` | works, differs, empty or refused | in what, or why |

Every command that the client has is in one row, and lxc_script.txt runs it. What is refused, or empty because there is
nothing of the kind, fails there, with the text that the script says.
"""

import hashlib
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from example_registry import ExampleRegistry

from lxdpy.api import openapi
from tests.fakes.certificates import make
from tests.system import lxd_images
from tests.system.daemon import Daemon, place
from tests.system.lxc import Lxc, Result
from tests.system.lxc_tree import commands

pytestmark = [
    pytest.mark.root,
    pytest.mark.lxc,
    pytest.mark.overlay,
    pytest.mark.network,
    pytest.mark.registry,
    pytest.mark.lxd_client,
]

DOCUMENT = Path(__file__).parents[2] / "api/compatibility.md"
SCRIPT = Path(__file__).with_name("lxc_script.txt")
VERDICTS = ("works", "differs", "empty", "refused")
_NOT_OFFERED = "not offered"

Words = tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """What one row says of the names in it."""

    names: tuple[str, ...]
    verdict: str
    text: str


def rows(heading: str) -> list[Row]:
    """The rows of the table below a heading."""
    section = DOCUMENT.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = []
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            assert len(cells) == 3, line
            assert cells[1] in VERDICTS, line
            assert cells[2] or cells[1] == "works", f"Nothing says why: {line}"
            found.append(Row(tuple(re.findall(r"`([^`]+)`", cells[0])), cells[1], cells[2]))
    assert found
    return found


@dataclass(frozen=True)
class Line:
    """One line of the script."""

    words: Words
    kind: str
    """"!": fails; "&": goes on beside the lines that follow; "": succeeds."""
    stdin: bytes
    prints: str


def script(variables: dict[str, Callable[[], str]]) -> Iterator[Line]:
    for text in SCRIPT.read_text().splitlines():
        if not text or text.startswith("#"):
            continue
        for name, value in variables.items():
            if f"${name}" in text:
                text = text.replace(f"${name}", value())
        text, _, prints = text.partition(" => ")
        text, _, stdin = text.partition(" <<< ")
        kind = text[0] if text[:2] in ("! ", "& ") else ""
        yield Line(tuple(shlex.split(text[2 * len(kind) :])), kind, stdin.replace("\\n", "\n").encode(), prints)


def command_of(words: Words, tree: set[Words]) -> Words:
    """The command that a line calls."""
    for length in range(len(words), 0, -1):
        if words[:length] in tree:
            return words[:length]
    raise AssertionError(f"lxc has no command {' '.join(words)}")


@pytest.fixture(scope="module")
def daemon(example_registry: ExampleRegistry) -> Iterator[Daemon]:
    with place() as directory, Daemon(directory / "state") as running:
        # The connection to the registry, whose other end is in this process, stays.
        running.get(f"/1.0/images/aliases/{quote(f'{example_registry.host}/example:1', safe='')}")
        yield running


@pytest.fixture(scope="module")
def lxc(daemon: Daemon) -> Lxc:
    return Lxc(daemon.state_dir, daemon.state_dir.parent / "home")


@pytest.fixture(scope="module")
def tree(lxc: Lxc) -> set[Words]:
    return set(commands(lxc.environment))


def test_every_command_is_in_one_row(tree: set[Words]) -> None:
    named: dict[Words, int] = dict.fromkeys(tree, 0)
    for row in rows("LXD's client"):
        for name in row.names:
            matched = matching(name, tree)
            assert matched, f"lxc has no command {name}"
            for command in matched:
                named[command] += 1
    assert {" ".join(command): count for command, count in named.items() if count != 1} == {}


def matching(name: str, tree: set[Words]) -> list[Words]:
    words = tuple(name.split())
    if words[-1] == "*":
        return [command for command in tree if command[: len(words) - 1] == words[:-1]]
    return [words] if words in tree else []


@pytest.mark.timeout(300)
def test_commands(
    daemon: Daemon, lxc: Lxc, tree: set[Words], example_registry: ExampleRegistry, tmp_path: Path
) -> None:
    succeeded, failed = set(), set()
    with ExitStack() as beside:
        for line in script(variables(daemon, lxc, example_registry, tmp_path)):
            if line.kind == "&":
                beside.enter_context(running(line, lxc, tmp_path))
            else:
                check(line, lxc.run(*line.words, stdin=line.stdin))
            (failed if line.kind == "!" else succeeded).add(command_of(line.words, tree))
    wrong = []
    for row in rows("LXD's client"):
        for name in row.names:
            commands = set(matching(name, tree))
            if row.verdict in ("works", "differs"):
                wrong += [f"{' '.join(command)}: not in the script" for command in commands - succeeded - failed]
            else:
                wrong += [f"{' '.join(command)} is {row.verdict}, and works" for command in commands & succeeded]
                wrong += [] if commands & failed else [f"{name}: not in the script"]
    assert not wrong, "\n".join(wrong)


def variables(daemon: Daemon, lxc: Lxc, registry: ExampleRegistry, directory: Path) -> dict[str, Callable[[], str]]:
    """What the script may name, found when it does."""
    place = daemon.state_dir.parent / "data"
    place.mkdir()
    image = lxd_images.unified(directory / "system.tar.gz")
    (directory / "file").write_text("pushed\n")
    certificate = make(directory).client
    # The client looks for it before it asks the server.
    (lxc.home / "bin").mkdir()
    (lxc.home / "bin/sshfs").symlink_to("/bin/true")
    lxc.environment["PATH"] = f"{lxc.home}/bin:{lxc.environment['PATH']}"
    return {
        "DIR": lambda: str(place),
        "SOCKET": lambda: str(daemon.socket),
        "OCI": lambda: f"{registry.host}/example:1",
        "SYSTEM": lambda: str(image),
        "FINGERPRINT": lambda: hashlib.sha256(image.read_bytes()).hexdigest(),
        "FILE": lambda: str(directory / "file"),
        "CERTIFICATE": lambda: str(certificate),
        "OPERATION": lambda: str(lxc.query("/1.0/operations")["running"][0]).rpartition("/")[2],
    }


@contextmanager
def running(line: Line, lxc: Lxc, directory: Path) -> Iterator[None]:
    """Run it beside the block; it must have printed what the line says by then."""
    output = directory / "beside"
    with output.open("wb") as file:
        process = subprocess.Popen(
            ("lxc", *line.words), stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=lxc.environment
        )
    try:
        # It has nothing to print before it is connected, and its operation is there.
        deadline = time.monotonic() + 10
        while line.words[0] == "exec" and b"running" not in lxc.run("query", "/1.0/operations").stdout:
            assert time.monotonic() < deadline
        yield
        assert line.prints in output.read_text()
    finally:
        process.kill()
        process.wait()


def check(line: Line, result: Result) -> None:
    assert result.code == (1 if line.kind else 0), result
    assert line.prints in result.stderr + ("" if line.kind else result.stdout.decode(errors="replace")), result


def test_endpoints(lxc: Lxc) -> None:
    """Each row's methods and path, asked for by `lxc query` for something that is not there."""
    offered = {
        (method.upper(), re.sub(r"\{\w+\}", "{}", path))
        for path, methods in openapi.document()["paths"].items()
        for method in methods
    }
    wrong = []
    for row in rows("LXD's endpoints"):
        for name in row.names:
            methods, path = name.split()
            for method in methods.split(","):
                known = (method, re.sub(r"[A-Z]{2,}", "{}", path)) in offered
                if row.verdict != "refused" and not known:
                    wrong.append(f"{method} {path} {row.verdict}, and api/openapi.json does not have it")
                elif row.verdict == "refused" and not refused(lxc.run("query", "-X", method, path)):
                    wrong.append(f"{method} {path} is refused, and that is not what the answer says")
    assert not wrong, "\n".join(wrong)


def refused(result: Result) -> bool:
    return result.code == 1 and _NOT_OFFERED in result.stderr
