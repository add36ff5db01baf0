"""A real LXD 5.0.2 and lxdpy are asked the same, and answer the same, but for what stands in DIFFERENT with its reason.

Compared are HTTP status, the headers that clients read, the envelope, the metadata's keys and values, and how the
operation ended; of errors the status, not the text.
"""

import fnmatch
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.system import asked_of_both, lxd_images
from tests.system.asked_of_both import Request
from tests.system.daemon import SLOT, Daemon, place
from tests.system.lxd import lxd
from tests.system.same_answers import Difference, Server, differences, events, lifecycle, progress, sequence_differences

pytestmark = [
    pytest.mark.root,
    pytest.mark.lxc,
    pytest.mark.overlay,
    pytest.mark.network,
    pytest.mark.lxd,
]

Listed = tuple[str, str, str, str, str]

_AT_ONCE = "what can't be is refused at once, where LXD's operation fails"
_CLIENTS = "the client's mistake, where LXD says its own"
_TAKEN = "a name that is taken is a 409"
_EXITS = "extension instance_exit_status"
_FEATURES = "tells nothing that a client acts on"
_PATHS = "LXD's path leads nowhere"
_CREATED = "LXD 5.0.2 says year 1"
_EMPTY = "an empty list, where LXD has null in some answers"
_POOL = "instances and images lie in the state directory, on overlays"
_EXEC = "what ran stays told when it has ended"
_LIMITS = "projects have no other limits"
_SP1 = "/1.0/storage-pools/sp1"
_V1 = f"{_SP1}/volumes/custom/v1"

DIFFERENT: tuple[Listed, ...] = (
    ("GET /1.0", "metadata.auth_methods", "['tls']", "[0]", "no listener for clients with certificates"),
    ("GET /1.0", "metadata.environment.kernel_features.*", "str", "absent", _FEATURES),
    ("GET /1.0", "metadata.environment.lxc_features.*", "str", "absent", _FEATURES),
    ("GET /1.0", "metadata.environment.server_event_mode", "str", "absent", "of clusters"),
    ("GET /1.0/cluster", "ETag", "True", "False", "it can't be written"),
    ("GET /1.0/cluster", "metadata.member_config", "[1]", "[0]", "this host joins no cluster"),
    ("GET /1.0/cluster", "metadata.member_config[0]", "{}", "absent", "this host joins no cluster"),
    ('POST /1.0/instances {"name": "c1", *"sys"}}', "kind", "202 async, Failure", "409 error", _TAKEN),
    ('POST /1.0/instances {"name": "c2", *"config": *', "kind", "202 async, Failure", "400 error", _AT_ONCE),
    ('POST /1.0/instances {"name": "c2", *"profiles": *', "kind", "500 error", "404 error", _CLIENTS),
    ('POST /1.0/instances {"name": "c2", *"devices": *', "kind", "202 async, Failure", "501 error", _AT_ONCE),
    ("GET /1.0/instances*", "*state.exit_code", "absent", "None", _EXITS),
    ("GET /1.0/instances*", "*state.exit_signal", "absent", "*", _EXITS),
    ("GET /1.0/instances*", "*state.started_at", "absent", "*", _EXITS),
    ("GET /1.0/instances/c1/state*", "metadata.exit_code", "absent", "None", _EXITS),
    ("GET /1.0/instances/c1/state*", "metadata.exit_signal", "absent", "None", _EXITS),
    ("GET /1.0/instances/c1/state*", "metadata.started_at", "absent", "*", _EXITS),
    ("GET /1.0/instances?filter=bad", "kind", "500 error", "400 error", _CLIENTS),
    ("GET /1.0/instances/c1/logs/nope.log", "kind", "400 error", "404 error", "no such file, whatever its name"),
    ("PUT /1.0/instances/c1 ... #3", "kind", "202 async, Failure", "400 error", _AT_ONCE),
    ("PUT /1.0/instances/c1 ... #4", "kind", "202 async, Failure", "501 error", _AT_ONCE),
    ('POST /1.0/instances/c1 {"name": "c9"}', "kind", "202 async, Failure", "400 error", _AT_ONCE),
    ("POST /1.0/instances/c1/exec *", "operation.metadata.command", "absent", "*", _EXEC),
    ("POST /1.0/instances/c1/exec *", "operation.metadata.environment", "absent", "{}", _EXEC),
    ("POST /1.0/instances/c1/exec *", "operation.metadata.interactive", "absent", "False", _EXEC),
    ("* /1.0/instances/c1/files?*", "X-LXD-modified", "N-N-N N:N:N +N UTC", "N-N-N N:N:N.N +N UTC", "the whole time"),
    ("HEAD /1.0/instances/c1/files?*", "Content-Type", "application/json", "application/octet-stream", "as GET says"),
    ('POST /1.0/instances/c1/snapshots {"name": "s1"} #2', "kind", "202 async, Failure", "409 error", _TAKEN),
    ("* /1.0/instances/c1/snapshots/s1 {*", "operation.resources.*", "['/1.0/*/s1']", "['/1.0/*/c1']", _PATHS),
    ('PUT /1.0/instances/c1 {"restore": "nope"}', "kind", "202 async, Failure", "404 error", _AT_ONCE),
    ("DELETE /1.0/instances/c1/snapshots/s2", "operation.resources.*", "*/c1/s2']", "*/c1']", _PATHS),
    ('POST /1.0/images {"source": *"c1"}*', "operation.resources", "None", "{}", "says what it is made of"),
    ('POST /1.0/images {"source": *"c1"}*', "operation.resources.*", "absent", "*", "says what it is made of"),
    ('POST /1.0/instances/c1/backups {"name": "b1"} #2', "kind", "202 async, Failure", "409 error", _TAKEN),
    ("DELETE /1.0/instances/c1/backups/b2", "operation.resources.container", "['/1.0/container/c1']", "absent", _PATHS),
    ("DELETE /1.0/instances/c1/backups/b2", "operation.resources.*s", "absent", "*", _PATHS),
    ("GET /1.0/instances?recursion=1 #3", "*.description", "", "x", "LXD's restore loses it"),
    ("GET /1.0/storage-pools/default/volumes/container/c1", "metadata.created_at", "no time", "time", _CREATED),
    ('POST /1.0/profiles {"name": "p1"}', "kind", "500 error", "409 error", _TAKEN),
    ("PUT /1.0/profiles/p1 *", "kind", "500 error", "400 error", _CLIENTS),
    ("POST /1.0/profiles/nope *", "kind", "500 error", "404 error", _CLIENTS),
    ("GET /1.0/projects?*", "*.description", "Default LXD project", "Default lxdpy project", "a name"),
    ("GET /1.0/profiles?project=j2*", "*.description", "Default LXD *j1", "Default lxdpy *j2", "a name"),
    *(
        ("GET /1.0/projects/j1/state", f"metadata.resources.{what}", "{}", "absent", _LIMITS)
        for what in ("cpu", "disk", "memory", "networks", "processes", "virtual-machines")
    ),
    ("POST /1.0/networks *.1/24* #2", "kind", "400 error", "409 error", _TAKEN),
    ("POST /1.0/networks *nonsense*", "kind", "500 error", "400 error", _CLIENTS),
    ('POST /1.0/networks *"type": "nope"}', "kind", "400 error", "501 error", "not supported, as other devices"),
    ("GET /1.0/networks/{net}*", "metadata.used_by", "None", "[0]", _EMPTY),
    ("GET /1.0/networks/{net}/state", "*.forward_delay", "1500", "0", "bridges forward at once"),
    ("GET /1.0/networks/lo", "ETag", "True", "False", "it can't be written"),
    ("GET /1.0/networks/lo", "metadata.locations", "None", "[0]", _EMPTY),
    ("GET /1.0/storage-pools?recursion=1", "*.config.source", "{dir}/storage-pools/default", "{dir}", _POOL),
    ("GET /1.0/storage-pools?recursion=1", "*.driver", "dir", "overlay", _POOL),
    ("GET /1.0/storage-pools/default", "metadata.config.source", "{dir}/storage-pools/default", "{dir}", _POOL),
    ("GET /1.0/storage-pools/default", "metadata.driver", "dir", "overlay", _POOL),
    ("GET /1.0/storage-pools/*", "ETag", "False", "True", "pools can be written, too"),
    (f"GET {_SP1}", "metadata.used_by", "None", "[0]", _EMPTY),
    ('POST /1.0/storage-pools *"driver": "nope"}', "kind", "500 error", "400 error", _CLIENTS),
    (f"GET {_SP1}/volumes*", "metadata*created_at", "no time", "time", _CREATED),
    (f"GET {_V1}/state", "kind", "500 error", "200 sync", "a directory can be measured, too"),
    (f"POST {_V1}/snapshots *", "operation.resources.storage_volume_snapshots", "absent", "*", _PATHS),
    (f"POST {_V1}/snapshots *", "operation.resources.storage_volumes", "*/storage_volumes/v1']", "*", _PATHS),
    (f"GET {_V1}/snapshots?recursion=1", "*.content_type", "", "filesystem", "as the volume's"),
    (f"GET {_V1}/snapshots?recursion=1", "*.expires_at", "None", "no time", "as a single snapshot shows it"),
    (f"* {_V1}/snapshots/s*", "operation.resources.*", "*/storage_volume_snapshots/v1']", "*", _PATHS),
    ('POST * {"name": "v3", *', "operation.resources", "None", "{}", "says what is made"),
    ('POST * {"name": "v3", *', "operation.resources.storage_volumes", "absent", "*", "says what is made"),
    (f"POST {_V1}/backups *", "operation.resources.storage_volumes", "*/storage_volumes/v1']", "*", _PATHS),
    (f"DELETE {_V1}/backups/b1", "operation.resources.volume", "['/1.0/volume/v1']", "*", _PATHS),
)
"""Request, field, LXD's value, ours (all may have * for any text); and why."""

EVENTS_DIFFERENT: tuple[Listed, ...] = (
    ("events", "operation", "Downloading image [] *", "Downloading image ['images'] *", "says what is made"),
)
"""Sequence, LXD's event and the one in its place."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """LXD and lxdpy, with the same image, pool and default profile."""
    image = lxd_images.unified(tmp_path_factory.mktemp("image") / "sys.tar.gz")
    fingerprint = hashlib.sha256(image.read_bytes()).hexdigest()
    words = {"fingerprint": fingerprint, "short": fingerprint[:10]}
    with place() as directory, lxd() as theirs, Daemon(directory / "state") as daemon:
        lxd_dir = theirs.environment["LXD_DIR"]
        both = (
            Server(
                f"{lxd_dir}/unix.socket", words | {"dir": lxd_dir, "net": f"lxdt{SLOT}", "subnet": f"10.{220 + SLOT}.7"}
            ),
            Server(
                str(daemon.socket),
                words | {"dir": str(daemon.state_dir), "net": f"lxpt{SLOT}", "subnet": f"10.{230 + SLOT}.7"},
            ),
        )
        root = {"root": {"type": "disk", "path": "/", "pool": "default"}}
        for server in both:
            profile = {"config": {}, "description": "", "devices": root}
            assert server.ask("PUT", "/1.0/profiles/default", profile)["kind"] == "200 sync"
            _import(server, image)
        yield both
        for server in both:
            server.http.close()


def _import(server: Server, image: Path) -> None:
    headers = {"Content-Type": "application/octet-stream", "X-LXD-filename": "sys.tar.gz"}
    answer = server.ask("POST", "/1.0/images", image.read_bytes(), headers)
    assert answer["kind"] == "202 async, Success", answer


def test_answers(servers: tuple[Server, Server]) -> None:
    theirs, ours = servers
    found: list[Difference] = []
    asked: Counter[str] = Counter()
    for request in (request for group in asked_of_both.ALL for request in group):
        name = _name(request)
        asked[name] += 1
        if asked[name] > 1:
            name = f"{name} #{asked[name]}"
        found += differences(name, theirs.ask(*request), ours.ask(*request))
    _check(found, DIFFERENT)


def _name(request: Request) -> str:
    body = request[2] if len(request) > 2 else None
    shown = " ..." if callable(body) or isinstance(body, bytes) else f" {json.dumps(body)}" if body is not None else ""
    return f"{request[0]} {request[1]}{shown}"


def _check(found: Sequence[Difference], different: Sequence[Listed]) -> None:
    unlisted = [one for one in found if not any(_covers(listed, one) for listed in different)]
    gone = [listed for listed in different if not any(_covers(listed, one) for one in found)]
    assert not unlisted, "LXD answers otherwise:\n" + "\n".join(map(str, unlisted))
    assert not gone, "No difference any more:\n" + "\n".join(map(str, gone))


def _covers(listed: Listed, one: Difference) -> bool:
    return all(
        fnmatch.fnmatchcase(value, pattern.replace("[", "[[]"))
        for value, pattern in zip((one.request, one.field, one.lxd, one.ours), listed, strict=False)
    )


def test_events(servers: tuple[Server, Server], tmp_path: Path) -> None:
    image = lxd_images.unified(tmp_path / "again.tar.gz", what="events")
    fingerprint = hashlib.sha256(image.read_bytes()).hexdigest()
    happened, went = [], []
    for server in servers:
        server.words |= {"fingerprint": fingerprint, "short": fingerprint[:10]}
        with events(server, until="image-deleted") as told:
            _import(server, image)
            for request in asked_of_both.LIFE:
                kind = server.ask(*request)["kind"]
                assert kind.endswith(("Success", "200 sync", "201 sync")), (request, kind)
        happened.append(lifecycle(server, told))
        went.append(progress(server, told))
    found = [
        *sequence_differences("lifecycle", happened[0], happened[1]),
        *sequence_differences("operation", went[0], went[1]),
    ]
    _check(found, EVENTS_DIFFERENT)
