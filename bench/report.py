"""The table of docs/performance.md: medians, ratios, and whether each limit is kept."""

import os
import platform
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.images import ImageSummary
from bench.results import Results

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
OURS = "lxdpy"
PEERS = ("docker", "podman", "LXD", "skopeo + umoci", "igzip, tar")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `limits` is the largest ratio of ours to each peer's median that we accept."""

    work: str
    title: str
    unit: str
    limits: Mapping[str, float] = field(default_factory=dict)


ROWS = (
    Row("pull", "cold pull of app:1", "s", {"docker": 0.25, "skopeo + umoci": 0.25, "igzip, tar": 1.3}),
    Row("run", "create + start + wait for exit + delete, `true`", "ms", {"docker": 0.2}),
    Row("exec", "exec `true` in a running container", "ms", {"docker": 0.2, "LXD": 0.5}),
    Row("stop", "stop by force", "ms", {"docker": 0.3, "LXD": 0.05}),
    Row("start-50", "50 starts, four at once", "s", {"docker": 0.2, "LXD": 0.4}),
    Row("list", "list of 100, half running (recursion=1)", "ms", {"LXD": 0.25}),
    Row("list-state", "the same with state (recursion=2)", "ms", {"LXD": 0.05}),
    Row("fresh", "daemon just started, PSS", "MiB", {"docker": 0.7}),
    Row("idle", "daemon idle after its first pull, PSS", "MiB", {"docker": 0.7}),
    Row("busy", "daemon with 50 running, PSS", "MiB"),
    Row("growth", "the same above idle", "MiB"),
    Row("monitor", "monitor of one running container, private", "MiB", {"docker": 0.4, "LXD": 0.1}),
    Row("snap-stopped", "snapshot of a stopped container", "ms", {"LXD": 0.1}),
    Row("snap-running", "snapshot of a running container", "ms", {"LXD": 1.0}),
    Row("copy-stopped", "copy of a stopped container", "ms", {"LXD": 0.1}),
    Row("copy-snapshot", "copy of a snapshot", "ms", {"LXD": 0.1}),
    Row("restore", "restore of a snapshot", "ms", {"LXD": 0.1}),
    Row("create", "create", "ms"),
    Row("start", "start", "ms"),
    Row("delete", "delete", "ms"),
    Row("create-100", "100 creates in a row", "s"),
)
GROWTH_LIMIT_MIB = 5.0


def write(results: Results, images: Mapping[str, ImageSummary], versions: Mapping[str, str]) -> str:
    """Put the table between the page's markers; the table comes back."""
    text = "\n".join([*_machine(versions), "", *_images(images), "", *_table(results), "", *_second_pull(results)])
    page = PAGE.read_text(encoding="utf-8")
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"Cannot write the table into {PAGE}: it needs {BEGIN} and {END} once each")
    replaced = re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{text}\n{END}", page, flags=re.DOTALL)
    PAGE.write_text(replaced, encoding="utf-8")
    return text


def _machine(versions: Mapping[str, str]) -> list[str]:
    memory_kib = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1])  # type: ignore[index]
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    peers = ", ".join(f"{name} {version}" for name, version in versions.items())
    return [
        f"Measured {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC: {os.cpu_count()} cores "
        f"({cpu[1] if cpu else platform.machine()}), {memory_kib / 2**20:.0f} GiB, {_filesystem(Path.cwd())}, "
        f"Linux {platform.release()}; {peers}."
    ]


def _filesystem(path: Path) -> str:
    """Type of the file system that `path` is on."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    holding = [mount for mount in mounts if path.is_relative_to(mount[1])]
    return max(holding, key=lambda mount: len(mount[1]))[2]


def _images(images: Mapping[str, ImageSummary]) -> list[str]:
    return [
        f"`{tag}`: {image.layers} layers, {image.compressed / 1e6:.0f} MB compressed, {image.unpacked / 1e6:.0f} MB "
        f"unpacked, {image.entries:,} entries.  "
        for tag, image in images.items()
        if tag in ("app:1", "debian:12")
    ]


def _table(results: Results) -> list[str]:
    lines = [
        f"| the same work | {' | '.join((OURS, *PEERS))} | ratio (at most) | samples |",
        "|---" + "|---:" * (len(PEERS) + 1) + "|---|---:|",
    ]
    for row in ROWS:
        medians = {who: results.median(row.work, who) for who in (OURS, *PEERS)}
        if all(median is None for median in medians.values()):
            continue
        cells = [_number(medians[who]) for who in (OURS, *PEERS)]
        samples = max(len(taken) for taken in results.works[row.work].values())
        lines.append(f"| {row.title}, {row.unit} | {' | '.join(cells)} | {_ratios(row, medians)} | {samples} |")
    return lines


def _ratios(row: Row, medians: Mapping[str, float | None]) -> str:
    ours = medians[OURS]
    if row.work == "growth":
        mark = "" if ours is None else " ✓" if ours <= GROWTH_LIMIT_MIB else " **over**"
        return f"at most {GROWTH_LIMIT_MIB:.0f} MiB{mark}"
    parts = []
    for who, limit in row.limits.items():
        theirs = medians[who]
        if ours is None or not theirs:
            parts.append(f"{who} ({limit}x)")
        else:
            parts.append(f"{ours / theirs:.3g}x {who} ({limit}x) {'✓' if ours <= limit * theirs else '**over**'}")
    return "<br>".join(parts)


def _second_pull(results: Results) -> list[str]:
    counts = {kind: results.median("pull-again", f"{OURS} {kind}") for kind in ("manifests", "blobs", "all")}
    if counts["all"] is None:
        return []
    kept = counts["manifests"] == 1 and counts["blobs"] == 0
    return [
        f"A second pull of the unchanged tag: {counts['manifests']:.0f} manifest requests, {counts['blobs']:.0f} blob "
        f"requests, {counts['all']:.0f} in all (at most one manifest request, no blob) {'✓' if kept else '**over**'}."
    ]


def _number(value: float | None) -> str:
    """Three digits that matter."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
