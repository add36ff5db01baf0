"""Files of instances, with LXD's own client, pylxd, and plain requests for what these do not send."""

import dataclasses
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from example_registry import ExampleRegistry

from lxdpy.api.schemas.files import parse_time, render_time
from tests.system import trees
from tests.system.daemon import Daemon, Failed, place
from tests.system.lxc import Lxc
from tests.system.terminal import Terminal
from tests.system.trees import Entry

pytestmark = [
    pytest.mark.root,
    pytest.mark.lxc,
    pytest.mark.overlay,
    pytest.mark.network,
    pytest.mark.registry,
    pytest.mark.lxd_client,
]

IMAGE = {"type": "image", "alias": "example"}
FILES = "/1.0/instances/{}/files"


@pytest.fixture(scope="module")
def daemon(example_registry: ExampleRegistry) -> Iterator[Daemon]:
    with place() as directory, Daemon(directory / "state") as running:
        running.pull("example:1", f"http://{example_registry.host}")
        image = running.get("/1.0/images?recursion=1")[0]
        running.request("POST", "/1.0/images/aliases", {"name": "example", "target": image["fingerprint"]})
        running.create("c1", IMAGE)
        running.create("off", IMAGE, start=False)
        yield running


@pytest.fixture(scope="module")
def lxc(daemon: Daemon) -> Lxc:
    return Lxc(daemon.state_dir, daemon.state_dir.parent / "home")


EITHER = pytest.mark.parametrize("name", ["c1", "off"])


def head(daemon: Daemon, name: str, path: str) -> httpx.Headers:
    answer = daemon.http.head(FILES.format(name), params={"path": path})
    assert answer.status_code == 200, (path, answer.status_code)
    return answer.headers


def owner(daemon: Daemon, name: str, path: str) -> tuple[str, str, str]:
    headers = head(daemon, name, path)
    return headers["X-LXD-uid"], headers["X-LXD-gid"], headers["X-LXD-mode"]


def post(daemon: Daemon, name: str, path: str, content: bytes = b"", **headers: str) -> httpx.Response:
    given = {f"X-LXD-{key.replace('_', '-')}": value for key, value in headers.items()}
    return daemon.http.post(FILES.format(name), params={"path": path}, content=content, headers=given)


def get(daemon: Daemon, name: str, path: str) -> httpx.Response:
    return daemon.http.get(FILES.format(name), params={"path": path})


def error(answer: httpx.Response) -> tuple[int, str]:
    envelope = answer.json()
    assert envelope["error_code"] == answer.status_code
    return answer.status_code, envelope["error"]


@EITHER
def test_push_and_pull(daemon: Daemon, lxc: Lxc, tmp_path: Path, name: str) -> None:
    lxc.ok("file", "push", "-", f"{name}/root/one", "--mode", "640", "--uid", "5", "--gid", "6", stdin=b"one\n")
    assert lxc.ok("file", "pull", f"{name}/root/one", "-") == "one\n"
    assert owner(daemon, name, "/root/one") == ("5", "6", "0640")
    # What is there keeps owner and mode, as in LXD.
    lxc.ok("file", "push", "-", f"{name}/root/one", "--mode", "777", "--uid", "7", stdin=b"two\n")
    assert lxc.ok("file", "pull", f"{name}/root/one", "-") == "two\n"
    assert owner(daemon, name, "root/one") == ("5", "6", "0640")
    source = tmp_path / "source"
    source.write_text("from a file")
    source.chmod(0o751)
    lxc.ok("file", "push", str(source), f"{name}/root/")
    assert owner(daemon, name, "/root/source") == ("0", "0", "0751")
    lxc.ok("file", "push", str(source), str(source), f"{name}/opt/a/b/", "-p")
    assert owner(daemon, name, "/opt/a/b") == ("0", "0", "0750")
    lxc.ok("file", "pull", f"{name}/opt/a/b/source", f"{name}/root/one", f"{tmp_path}/new/")
    assert (tmp_path / "new/source").read_text() == "from a file"
    assert (tmp_path / "new/source").stat().st_mode & 0o777 == 0o751
    assert (tmp_path / "new/one").read_text() == "two\n"
    assert "No such file or directory" in lxc.fails("file", "pull", f"{name}/root/three", "-")
    assert "No such file or directory" in lxc.fails("file", "push", str(source), f"{name}/no/such/place")
    assert "without --recursive" in lxc.fails("file", "pull", f"{name}/root", "-")


@EITHER
def test_delete(daemon: Daemon, lxc: Lxc, name: str) -> None:
    lxc.ok("file", "push", "-", f"{name}/srv/d/one", "-p", stdin=b"")
    assert 'Cannot delete "/srv/d": Directory not empty' in lxc.fails("file", "delete", f"{name}/srv/d")
    lxc.ok("file", "delete", f"{name}/srv/d/one", f"{name}/srv/d")
    assert 'Cannot delete "/srv/d": No such file or directory' in lxc.fails("file", "delete", f"{name}/srv/d")
    # The link goes, and not what it leads to.
    post(daemon, name, "/srv/link", b"/etc/passwd", type="symlink")
    lxc.ok("file", "delete", f"{name}/srv/link")
    assert lxc.ok("file", "pull", f"{name}/etc/passwd", "-").startswith("root:")
    assert get(daemon, name, "/srv").json()["metadata"] == []
    lxc.ok("file", "delete", f"{name}/srv")


def test_edit(lxc: Lxc, tmp_path: Path) -> None:
    lxc.ok("file", "push", "-", "c1/root/edited", "--mode", "600", stdin=b"one\n")
    lxc.ok("file", "edit", "c1/root/edited", stdin=b"two\n")
    assert lxc.ok("file", "pull", "c1/root/edited", "-") == "two\n"
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\necho three >>"$1"\n')
    editor.chmod(0o755)
    environment = {**lxc.environment, "EDITOR": str(editor)}
    with Terminal("lxc", "file", "edit", "c1/root/edited", environment=environment) as terminal:
        assert terminal.end()[0] == 0
    assert lxc.ok("file", "pull", "c1/root/edited", "-") == "two\nthree\n"


def test_links_come_back_as_they_were(daemon: Daemon, lxc: Lxc, tmp_path: Path) -> None:
    tree = tmp_path / "links"
    tree.mkdir()
    (tree / "file").write_text("content")
    for link, target in (("near", "file"), ("far", "/etc/passwd"), ("none", "no where/ "), ("up", "../links/./file")):
        (tree / link).symlink_to(target)
    lxc.ok("file", "push", "-r", str(tree), "c1/root")
    # As they are in the container too.
    assert daemon.run("c1", "readlink", "/root/links/up")[1] == "../links/./file\n"
    (tmp_path / "back").mkdir()
    lxc.ok("file", "pull", "-r", "c1/root/links", str(tmp_path / "back"))
    assert {link: os.readlink(tmp_path / "back/links" / link) for link in ("near", "far", "up")} == {
        "near": "file",
        "far": "/etc/passwd",
        "up": "../links/./file",
    }
    # Links are followed by the client, from where they are.
    assert lxc.ok("file", "pull", "c1/root/links/near", "-") == "content"
    assert lxc.ok("file", "pull", "c1/root/links/up", "-") == "content"
    # ... and by the daemon where they are on the way, or what is to be written.
    post(daemon, "c1", "/root/way", b"links", type="symlink")
    lxc.ok("file", "push", "-", "c1/root/way/near", stdin=b"changed")
    assert get(daemon, "c1", "/root/links/file").text == "changed"
    # The same tree again: what is there may be there.
    lxc.ok("file", "push", "-r", str(tree), "c1/root")
    assert error(post(daemon, "c1", "/root/links/near", b"other", type="symlink")) == (
        409,
        'Cannot make symbolic link "/root/links/near": File exists',
    )


@pytest.mark.parametrize(("name", "count"), [("c1", 2000), ("off", 200)])
def test_a_large_tree(daemon: Daemon, lxc: Lxc, tmp_path: Path, name: str, count: int) -> None:
    trees.build(tmp_path / "tree", count)
    wanted = trees.look(tmp_path / "tree")
    lxc.ok("file", "push", "--quiet", "-r", str(tmp_path / "tree"), f"{name}/root")
    there = tree_of(daemon, name, "/root/tree")
    # The client sends no times.
    assert without_times(there) == without_times(wanted)
    (tmp_path / "back").mkdir()
    lxc.ok("file", "pull", "--quiet", "-r", f"{name}/root/tree", str(tmp_path / "back"))
    back = trees.look(tmp_path / "back/tree")
    # The client gives files their mode, but to directories as its umask allows, and nobody an owner.
    assert {path: (entry.kind, entry.content) for path, entry in back.items()} == {
        path: (entry.kind, entry.content) for path, entry in wanted.items()
    }
    assert {path: entry.mode for path, entry in back.items() if entry.kind == "file"} == {
        path: entry.mode for path, entry in wanted.items() if entry.kind == "file"
    }


@EITHER
def test_a_tree_with_all_that_the_api_carries(daemon: Daemon, tmp_path: Path, name: str) -> None:
    trees.build(tmp_path / "tree", 300, seed=2)
    for path, mode in zip((tmp_path / "tree").glob("file*"), (0o4755, 0o2755, 0o1644), strict=False):
        path.chmod(mode)
    wanted = trees.look(tmp_path / "tree")
    post(daemon, name, "/root/exact", type="directory", mode="755")
    directories = [path for path, entry in wanted.items() if entry.kind == "directory"]
    for path in sorted(wanted):
        put(daemon, name, f"/root/exact/{path}", wanted[path])
    for path in sorted(directories, reverse=True):
        put(daemon, name, f"/root/exact/{path}", wanted[path])
    assert tree_of(daemon, name, "/root/exact") == wanted
    if name == "off":
        daemon.act(name, "start")
        assert tree_of(daemon, name, "/root/exact") == wanted
        daemon.act(name, "stop", force=True)


def put(daemon: Daemon, name: str, path: str, entry: Entry) -> None:
    answer = post(
        daemon,
        name,
        path,
        entry.content,
        type=entry.kind,
        mode=f"{entry.mode:o}",
        uid=str(entry.uid),
        gid=str(entry.gid),
        modified=render_time(entry.modified_ns),
    )
    assert answer.status_code == 200, answer.text


def tree_of(daemon: Daemon, name: str, root: str) -> dict[str, Entry]:
    """What GET says of everything below a directory."""
    found: dict[str, Entry] = {}
    waiting = [""]
    while waiting:
        path = waiting.pop()
        answer = get(daemon, name, f"{root}/{path}")
        assert answer.status_code == 200, answer.text
        headers = answer.headers
        kind = headers["X-LXD-type"]
        if path:
            found[path] = Entry(
                kind,
                b"" if kind == "directory" else answer.content,
                int(headers["X-LXD-mode"], 8),
                int(headers["X-LXD-uid"]),
                int(headers["X-LXD-gid"]),
                parse_time(headers["X-LXD-modified"]),
            )
        if kind == "directory":
            waiting += [f"{path}/{entry}".lstrip("/") for entry in answer.json()["metadata"]]
    return found


def without_times(tree: dict[str, Entry]) -> dict[str, Entry]:
    return {path: dataclasses.replace(entry, modified_ns=0) for path, entry in tree.items()}


def test_large_files(lxc: Lxc) -> None:
    content = os.urandom(64 << 20)
    lxc.ok("file", "push", "-", "c1/root/large", stdin=content)
    assert lxc.run("file", "pull", "c1/root/large", "-").stdout == content
    lxc.ok("file", "delete", "c1/root/large")


def test_append_and_modify(daemon: Daemon) -> None:
    assert error(post(daemon, "c1", "/root/log", b"x", write="append"))[0] == 404
    post(daemon, "c1", "/root/log", b"one", mode="600", uid="4")
    post(daemon, "c1", "/root/log", b"two", write="append", mode="644", uid="5")
    assert get(daemon, "c1", "/root/log").text == "onetwo"
    assert owner(daemon, "c1", "/root/log") == ("4", "0", "0600")
    post(daemon, "c1", "/root/log", b"three", mode="4644", uid="5", gid="6", modify_perm="mode,uid")
    assert get(daemon, "c1", "/root/log").text == "three"
    assert owner(daemon, "c1", "/root/log") == ("5", "0", "4644")
    post(daemon, "c1", "/root/dir", type="directory", mode="1777")
    post(daemon, "c1", "/root/dir", type="directory", mode="700", gid="9")
    assert owner(daemon, "c1", "/root/dir") == ("0", "0", "1777")
    post(daemon, "c1", "/root/dir", type="directory", mode="700", gid="9", modify_perm="mode,gid")
    assert owner(daemon, "c1", "/root/dir") == ("0", "9", "0700")


PYLXD = """
import sys
from pathlib import Path
import pylxd
files = pylxd.Client(endpoint=sys.argv[1]).instances.get("c1").files
assert files.delete_available()
files.put("/root/p", "text", mode=0o640, uid=3, gid=4)
assert files.get("/root/p") == b"text"
files.mk_dir("/root/made", mode=0o711)
tree = Path(sys.argv[2], "tree")
(tree / "sub").mkdir(parents=True)
(tree / "sub/file").write_text("content")
(tree / "sub/file").chmod(0o604)
files.recursive_put(str(tree), "/root/put", mode=True)
files.recursive_get("/root/put", sys.argv[2] + "/got")
assert Path(sys.argv[2], "got/sub/file").read_text() == "content"
files.put("/root/gone", b"")
files.delete("/root/gone")
try:
    files.get("/root/gone")
except pylxd.exceptions.NotFound:
    pass
else:
    raise AssertionError("it was found")
"""


def test_pylxd(daemon: Daemon, tmp_path: Path) -> None:
    # In a process of its own: it warns, and leaves sockets open.
    command = (sys.executable, "-c", PYLXD, str(daemon.socket), str(tmp_path))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert owner(daemon, "c1", "/root/p") == ("3", "4", "0640")
    assert owner(daemon, "c1", "/root/made") == ("0", "0", "0711")
    assert owner(daemon, "c1", "/root/put/sub/file") == ("0", "0", "0604")


_BUSY = 'Cannot delete "{}": Device or resource busy'


def test_what_can_not_be(daemon: Daemon) -> None:
    daemon.run("c1", "sh", "-c", "mkfifo /root/fifo; mkdir -p /root/full/x")
    for answer, expected in (
        (daemon.http.get(FILES.format("c1")), (400, "Missing path argument")),
        (get(daemon, "none", "/"), (404, 'Instance "none" not found')),
        (get(daemon, "c1", "/etc/passwd/x"), (404, 'Cannot read "/etc/passwd/x": Not a directory')),
        (get(daemon, "c1", "/root/fifo"), (400, 'Cannot open "/root/fifo": it is a named pipe')),
        (get(daemon, "c1", "/dev/null"), (400, 'Cannot open "/dev/null": it is a device')),
        (post(daemon, "c1", "/root/fifo"), (400, 'Cannot open "/root/fifo": it is a named pipe')),
        (post(daemon, "c1", "/root/full"), (400, 'Cannot write "/root/full": Is a directory')),
        (post(daemon, "c1", "/"), (400, 'Cannot write "/": Is a directory')),
        (post(daemon, "c1", "/etc/passwd", type="directory"), (409, None)),
        (post(daemon, "c1", "/x", type="door"), (400, "Bad file type: door")),
        (post(daemon, "c1", "/x", write="never"), (400, "Bad file write mode: never")),
        (post(daemon, "c1", "/x", mode="8"), (400, 'Bad value "8" of X-LXD-mode')),
        (post(daemon, "c1", "/x", uid="65536"), (400, None)),
        (post(daemon, "c1", "/x", type="symlink"), (400, None)),
        (daemon.http.delete(FILES.format("c1"), params={"path": "/root/.."}), (400, None)),
        (
            daemon.http.delete(FILES.format("c1"), params={"path": "/proc"}),
            (400, _BUSY.format("/proc")),
        ),
        (
            daemon.http.delete(FILES.format("c1"), params={"path": "/etc/hosts"}),
            (400, _BUSY.format("/etc/hosts")),
        ),
        (daemon.http.put(FILES.format("c1"), params={"path": "/x"}), (501, "not implemented")),
        (daemon.http.get("/1.0/instances/c1/sftp"), (501, None)),
    ):
        status, text = error(answer)
        assert (status, expected[1] or text) == (expected[0], text)
    assert head(daemon, "c1", "/root/fifo")["X-LXD-type"] == "named pipe"


def test_names_that_are_no_text(daemon: Daemon) -> None:
    name = FILES.format("c1")
    assert daemon.http.post(f"{name}?path=/root/%FF%22%0A", content=b"odd").status_code == 200
    answer = daemon.http.get(f"{name}?path=root/%FF%22%0A")
    assert answer.text == "odd"
    assert answer.headers["Content-Disposition"] == "inline;filename=%FF%22%0A"
    assert '\ufffd"\n' in get(daemon, "c1", "/root").json()["metadata"]
    assert daemon.http.delete(f"{name}?path=/root/%FF%22%0A").status_code == 200


def test_files_of_proc_have_content(lxc: Lxc) -> None:
    assert lxc.ok("file", "pull", "c1/proc/version", "-").startswith("Linux version")
    # More than one read gives.
    assert "VmRSS" in lxc.ok("file", "pull", "c1/proc/1/status", "-")


def test_links_lead_nowhere_but_into_the_container(daemon: Daemon, tmp_path: Path) -> None:
    canary = daemon.state_dir.parent / "canary"
    canary.write_text("host")
    canary.chmod(0o666)
    for target in (str(canary), f"../../../../../..{canary}", f"/proc/1/root/{canary}", f"/proc/self/root{canary}"):
        daemon.run("c1", "ln", "-sfn", target, "/root/trap")
        answer = post(daemon, "c1", "/root/trap", b"written")
        assert answer.status_code in (400, 404), (target, answer.text)
        daemon.run("c1", "ln", "-sfn", os.path.dirname(target), "/root/trap")
        answer = post(daemon, "c1", "/root/trap/canary", b"written")
        assert answer.status_code in (400, 404), (target, answer.text)
        assert get(daemon, "c1", "/root/trap/canary").status_code in (400, 404)
    assert canary.read_text() == "host"


def test_what_container_root_may_not_do_is_not_done_for_it(daemon: Daemon) -> None:
    """Else the container would lay a link there, and wait until somebody edits a file of it."""
    victim = next(
        path
        for pattern in ("/sys/kernel/mm/*/enabled", "/sys/kernel/mm/*/defrag", "/sys/module/*/parameters/*")
        for path in sorted(map(str, Path("/").glob(pattern[1:])))
        if os.stat(path).st_mode & 0o222
    )
    before = Path(victim).read_bytes()
    daemon.run("c1", "ln", "-sfn", victim, "/root/trap")
    status, text = error(post(daemon, "c1", "/root/trap", before))
    assert (status, text) == (403, 'Cannot write "/root/trap": Permission denied')


def test_a_container_that_swaps_what_is_written(daemon: Daemon) -> None:
    canary = daemon.state_dir.parent / "swapped"
    canary.mkdir(exist_ok=True)
    script = (
        "mkdir /root/real; cd /root; while [ -e real ]; do "
        f"ln -sfn real next; mv -T next way; ln -sfn {canary} next; mv -T next way; done"
    )
    operation = daemon.request("POST", "/1.0/instances/c1/exec", {"command": ["sh", "-c", script]})
    seen = set()
    for number in range(200):
        seen.add(post(daemon, "c1", f"/root/way/f{number}", b"x").status_code)
    daemon.run("c1", "rm", "-rf", "/root/real")
    daemon.wait(operation)
    assert seen <= {200, 400, 404}
    assert os.listdir(canary) == []


def test_a_start_breaks_off_what_is_under_way(daemon: Daemon) -> None:
    """Else the layers would be mounted twice."""

    def body() -> Iterator[bytes]:
        yield b"x" * (2 << 20)
        began.set()
        started.wait(30)
        yield b"y" * (2 << 20)

    began, started = threading.Event(), threading.Event()
    answers: list[httpx.Response] = []

    def push() -> None:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(daemon.socket)), timeout=60) as http:
            url = f"http://lxdpy{FILES.format('off')}?path={quote('/root/broken')}"
            answers.append(http.post(url, content=body()))

    pusher = threading.Thread(target=push)
    pusher.start()
    assert began.wait(30)
    while len(get(daemon, "off", "/root/broken").content) < 1 << 20:
        time.sleep(0.02)
    mounted = mounts_of(daemon, "/root/broken")
    daemon.act("off", "start")
    assert mounts_of(daemon).isdisjoint(mounted)
    started.set()
    pusher.join()
    assert error(answers[0]) == (
        409,
        'Cannot go on with writing "/root/broken" of instance "off": the instance was started, stopped or changed '
        "meanwhile",
    )
    # A running one that stops is let go of as well.
    assert get(daemon, "off", "/root/broken").status_code == 200
    mounted = {os.stat(f"/proc/{daemon.get('/1.0/instances/off/state')['pid']}/root").st_dev}
    assert mounted <= mounts_of(daemon)
    daemon.act("off", "stop", force=True)
    daemon.get("/1.0/instances/off/wait")
    assert mounts_of(daemon).isdisjoint(mounted)
    assert get(daemon, "off", "/root/broken").content[:4] == b"xxxx"


def mounts_of(daemon: Daemon, file: str = "") -> set[int]:
    """Devices of what the daemon and its workers hold open, or of a file that is open as `file`."""
    found = set()
    children = subprocess.run(("pgrep", "-P", str(zygote(daemon))), capture_output=True, text=True, check=False).stdout
    for pid in (str(daemon.pid), *children.split()):
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if not file or str(fd.readlink()) == file:
                    found.add(fd.stat().st_dev)
            except OSError:
                continue
    assert found
    return found


def zygote(daemon: Daemon) -> int:
    """The lifecycle worker: the daemon's child that has such a command line."""
    for task in Path(f"/proc/{daemon.pid}/task").iterdir():
        for pid in (task / "children").read_text().split():
            if b"lifecycle" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
    raise AssertionError("no lifecycle worker")


def test_deleting_ends_the_session(daemon: Daemon) -> None:
    daemon.create("short", IMAGE, start=False)
    assert post(daemon, "short", "/root/x", b"x").status_code == 200
    daemon.delete("short")
    with pytest.raises(Failed, match="404"):
        daemon.get("/1.0/instances/short")


def test_many_at_once(daemon: Daemon) -> None:
    failures: list[str] = []

    def work(number: int) -> None:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(daemon.socket)), timeout=60) as http:
            for turn in range(10):
                url = f"http://lxdpy{FILES.format(('c1', 'off')[number % 2])}?path=/root/m{number}"
                content = os.urandom(3 << 20) if turn == 5 else f"{number} {turn}".encode()
                http.post(url, content=content).raise_for_status()
                if http.get(url).content != content:
                    failures.append(f"{number} {turn}")

    workers = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []


def test_a_client_that_leaves(daemon: Daemon) -> None:
    """What it had open is closed: the daemon's descriptors are counted at the end of this file."""
    post(daemon, "c1", "/root/big", os.urandom(8 << 20))
    for request in (
        b"GET /1.0/instances/c1/files?path=/root/big HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /1.0/instances/c1/files?path=/root/half HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc",
    ):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(daemon.socket))
            sock.sendall(request)
            if request.startswith(b"GET"):
                assert sock.recv(100).startswith(b"HTTP/1.1 200")
            else:
                while get(daemon, "c1", "/root/half").status_code == 404:
                    time.sleep(0.02)


def test_a_file_system_of_the_containers_own_keeps_nobody_waiting(daemon: Daemon) -> None:
    """A thread of the daemon's that waits for it would wait for ever."""
    script = (
        'while ! [ -e /tmp/over/f ]; do sleep 0.1; done; [ "$1" = chroot ] && exec chroot /tmp/over /busybox sleep 1000'
    )
    for name, root in (("stuck", ""), ("left", "chroot")):
        command = f"sh -c '{script}; exec sleep 1000' sh {root}"
        daemon.create(name, IMAGE, config={"oci.entrypoint": command})
        pid = daemon.get(f"/1.0/instances/{name}/state")["pid"]
        helper = Path(__file__).with_name("stuck_fuse.py")
        arguments = [sys.executable, str(helper), str(pid), "/tmp/stuck", "/tmp/over"]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as server:
            try:
                assert server.stdout is not None
                assert server.stdout.readline() == b"ready\n"
                paths = ["/tmp/stuck/f", "/tmp/over/f"]
                if root:
                    while os.path.exists(f"/proc/{pid}/root/tmp"):
                        time.sleep(0.01)
                    paths = ["/f"]
                for path in paths:
                    status, text = error(get(daemon, name, path))
                    assert (status, "FUSE" in text) == (501, True), text
            finally:
                server.kill()
        daemon.act(name, "stop", force=True)
        daemon.delete(name)
