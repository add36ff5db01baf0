"""Run the benches and write docs/performance.md: `python -m bench.run [--only SUBJECT,...] [--rounds N]`.

Needs root, Debian's peers (bench/setup.sh) and a few GB of disk. Peers that are missing are left out, and said so.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

from bench import fleet, images, lifecycle, pull, report, snapshots
from bench.peers.base import Peer, PeerError, remove
from bench.peers.docker import Docker, Podman
from bench.peers.lxd import Lxd
from bench.peers.ours import Ours
from bench.registry import Registry
from bench.results import Results

SUBJECTS = {
    "pull": (pull.run, 5, (Docker, Podman, Ours)),
    "lifecycle": (lifecycle.run, 20, (Docker, Lxd, Ours)),
    "snapshots": (snapshots.run, 10, (Lxd, Ours)),
    "fleet": (fleet.run, 3, (Docker, Lxd, Ours)),
}
PACKAGES = ("docker.io", "podman", "lxd", "skopeo", "umoci", "isal", "docker-registry")


def main() -> int:
    """Measure what was asked for, then rewrite the table with all that the cache knows."""
    options = _options()
    if os.geteuid() != 0:
        print("bench: the daemons need root", file=sys.stderr)
        return 2
    # As an exception, so that daemons are stopped and mounts undone when somebody ends the run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    summary = images.summary()
    measured = images.CACHE / "results.json"
    firewall = _firewall()
    scratch = Path(tempfile.mkdtemp(prefix="lxdpy-bench-", dir=options.scratch))
    scratch.chmod(0o711)  # an unprivileged container's root must be able to reach its own files
    failed = []
    try:
        with Registry(images.REGISTRY, images.CACHE / "registry.log") as registry:
            for subject in options.only:
                run, rounds, kinds = SUBJECTS[subject]
                results = Results()
                try:
                    run(results, registry, _present(kinds, options.without), scratch, rounds=options.rounds or rounds)
                except (PeerError, httpx.HTTPError) as exc:
                    print(f"bench: {subject}: {exc}", file=sys.stderr)
                    failed.append(subject)
                    continue
                results.merge_into(measured)
    finally:
        remove(scratch)
    print(report.write(Results().merge_into(measured), summary, _versions()))
    if _firewall() != firewall:
        print("bench: the host's firewall is not as it was before", file=sys.stderr)
        failed.append("firewall")
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    def subjects(text: str) -> list[str]:
        names = text.split(",")
        if unknown := set(names) - set(SUBJECTS):
            raise argparse.ArgumentTypeError(f"no such subject: {', '.join(sorted(unknown))}")
        return names

    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--only", type=subjects, default=list(SUBJECTS), help="subjects, separated by commas")
    parser.add_argument("--rounds", type=int, help="rounds of each subject (default: each subject's own)")
    parser.add_argument("--without", type=lambda text: text.split(","), default=[], help="peers to leave out")
    parser.add_argument("--scratch", type=Path, default=Path("/var/tmp"), help="where the daemons' files go")
    return parser.parse_args()


def _present(kinds: tuple[type[Peer], ...], without: list[str]) -> list[type[Peer]]:
    present = []
    for kind in kinds:
        reason = "left out by --without" if kind.name in without else kind.missing()
        if reason:
            print(f"bench: without {kind.name}: {reason}", file=sys.stderr)
        else:
            present.append(kind)
    return present


def _firewall() -> list[str]:
    """The chains' policies and docker's rules on this host: what a dockerd with its defaults would change."""
    listed = subprocess.run(["nft", "--stateless", "list", "ruleset"], check=True, capture_output=True, text=True)
    return [line for line in listed.stdout.splitlines() if "policy" in line or "docker" in line.lower()]


def _versions() -> dict[str, str]:
    """Debian versions of the peers."""
    versions = {}
    for package in PACKAGES:
        query = ["dpkg-query", "-W", "-f", "${Version}", package]
        answer = subprocess.run(query, capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            versions[package] = answer.stdout
    return versions


if __name__ == "__main__":
    sys.exit(main())
