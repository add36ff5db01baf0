"""Build the images that the benches pull and run, once, into the cache (`python -m bench.images`).

    CACHE/layout/    OCI image layout with the tags below
          registry/  docker-registry storage that has them all
          busybox-lxd.tar.gz  busybox as an LXD image
          summary.json        size and number of entries of each image

| tag | what |
|---|---|
| debian:12 | mmdebstrap's Debian 12: one layer |
| app:1 | debian:12 + Python packages, node_modules, hardlinks, deletions, opaque directories, xattrs, large files |
| busybox:1, busybox:true | Debian's static busybox; commands `sleep` and `true` |

Package versions are pinned (what npm packages depend on floats), so that two machines measure nearly the same bytes.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.layers import Layer, LayerWriter, Layout
from bench.registry import Registry

CACHE = Path(os.environ.get("LXDPY_BENCH_CACHE", Path(__file__).resolve().parent.parent / ".cache" / "bench"))
LAYOUT = CACHE / "layout"
REGISTRY = CACHE / "registry"
LXD_IMAGE = CACHE / "busybox-lxd.tar.gz"
SUMMARY = CACHE / "summary.json"

WHEELS = (
    "django==4.2.13", "sqlalchemy==2.0.30", "numpy==1.26.4", "sympy==1.12", "mpmath==1.3.0", "babel==2.15.0",
    "requests==2.32.3", "urllib3==2.2.1", "idna==3.7", "certifi==2024.6.2", "jinja2==3.1.4", "pygments==2.18.0",
    "pydantic==2.7.2", "pydantic-core==2.18.3", "typing-extensions==4.12.1",
)  # fmt: skip
NPM_PACKAGES = (
    "react@18.3.1", "react-dom@18.3.1", "webpack@5.91.0", "eslint@8.57.0", "jest@29.7.0", "rxjs@7.8.1",
    "date-fns@2.30.0", "@babel/preset-env@7.24.6", "typescript@5.4.5", "lodash@4.17.21",
)  # fmt: skip
NPM_LARGE = ("@esbuild/linux-x64@0.21.4", "@swc/core-linux-x64-gnu@1.5.24", "@biomejs/cli-linux-x64@1.7.3")
OPAQUE_DIRECTORIES, HARDLINKS, XATTR_FILES, WHITEOUTS = 43, 1_000, 300, 572


@dataclass(frozen=True, slots=True)
class ImageSummary:
    """What an image holds: printed beside the numbers."""

    layers: int
    compressed: int
    unpacked: int
    entries: int


def summary() -> dict[str, ImageSummary]:
    """Size and entries by tag; builds the images when the cache has none."""
    if not SUMMARY.exists():
        build()
    return {tag: ImageSummary(**fields) for tag, fields in json.loads(SUMMARY.read_text()).items()}


def layer_blobs(tag: str) -> list[Path]:
    """The compressed layers of `tag` as files, bottom first."""
    index = json.loads((LAYOUT / "index.json").read_text())
    for entry in index["manifests"]:
        if entry["annotations"]["org.opencontainers.image.ref.name"] == tag:
            manifest = json.loads(_blob(entry["digest"]).read_text())
            return [_blob(layer["digest"]) for layer in manifest["layers"]]
    raise LookupError(f"No image {tag} in {LAYOUT}")


def build() -> None:
    """Build everything; a half-built cache never counts as built (the summary is written last)."""
    CACHE.mkdir(parents=True, exist_ok=True)
    for leftover in (LAYOUT, REGISTRY):
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="build-", dir=CACHE) as scratch:
        images = _write_images(Path(scratch))
    _push(list(images))
    SUMMARY.write_text(json.dumps({tag: asdict(_summarise(layers)) for tag, layers in images.items()}, indent=1))


def _write_images(scratch: Path) -> dict[str, list[Layer]]:
    layout = Layout(LAYOUT)
    images: dict[str, list[Layer]] = {}

    def image(tag: str, layers: list[Layer], command: list[str]) -> None:
        layout.image(tag, layers, command)
        images[tag] = layers

    busybox_root = _busybox(scratch / "busybox")
    busybox = layout.layer(lambda writer: writer.tree(busybox_root, ""))
    image("busybox:1", [busybox], ["sleep", "1000000"])
    image("busybox:true", [busybox], ["true"])
    _lxd_image(busybox_root)

    debian_root = _debian(scratch / "debian")
    debian = layout.layer(lambda writer: writer.tree(debian_root, ""))
    image("debian:12", [debian], ["bash"])

    python = _wheels(scratch / "python")
    modules = _npm(scratch / "npm", NPM_PACKAGES)
    large = _npm(scratch / "large", NPM_LARGE)
    fills: list[Callable[[LayerWriter], None]] = [
        lambda writer: _under(writer, python, "usr/local/lib/python3.11/dist-packages", owner=0),
        lambda writer: _under(writer, modules, "srv/app/node_modules", owner=1000),
        _hardlinks(modules),
        _deletions(debian_root, modules),
        _opaques(modules),
        _xattrs(python),
        lambda writer: _under(writer, large, "opt/tools", owner=0),
        _application(busybox_root),
    ]
    image("app:1", [debian, *(layout.layer(fill) for fill in fills)], ["bash"])
    layout.finish()
    return images


def _under(writer: LayerWriter, source: Path, prefix: str, *, owner: int) -> None:
    writer.parents(f"{prefix}/x")
    writer.tree(source, prefix, owner=owner)


def _hardlinks(modules: Path) -> Callable[[LayerWriter], None]:
    """Copies of small modules, each with a second name: as package managers that link from a store leave them."""

    def fill(writer: LayerWriter) -> None:
        for name in ("srv", "srv/store", "srv/linked"):
            writer.directory(name)
        for number, path in enumerate(_files(modules, ".js", HARDLINKS)):
            info = tarfile.TarInfo(f"srv/store/{number}.js")
            info.size = path.stat().st_size
            writer.add(info, path)
            writer.hardlink(f"srv/linked/{number}.js", info.name)

    return fill


def _deletions(debian: Path, modules: Path) -> Callable[[LayerWriter], None]:
    """Whiteouts in the base layer and in node_modules, half each."""

    def fill(writer: LayerWriter) -> None:
        names = [f"srv/app/node_modules/{path.relative_to(modules)}" for path in _files(modules, ".md", WHITEOUTS // 2)]
        base = debian / "usr" / "share"
        names += [f"usr/share/{path.relative_to(base)}" for path in _files(base, "", WHITEOUTS - len(names))]
        made: set[str] = set()
        for name in names:
            parts = name.split("/")[:-1]
            for depth in range(1, len(parts) + 1):
                parent = "/".join(parts[:depth])
                if parent not in made:
                    writer.directory(parent)
                    made.add(parent)
            writer.whiteout(name)

    return fill


def _opaques(modules: Path) -> Callable[[LayerWriter], None]:
    """Directories that hide everything below, each with one new file."""

    def fill(writer: LayerWriter) -> None:
        writer.parents("srv/app/node_modules/x")
        packages = [path for path in sorted(modules.iterdir()) if path.is_dir() and path.name[0] not in "@."]
        for package in packages[:OPAQUE_DIRECTORIES]:
            writer.opaque(f"srv/app/node_modules/{package.name}")
            manifest = package / "package.json"
            info = tarfile.TarInfo(f"srv/app/node_modules/{package.name}/package.json")
            info.size = manifest.stat().st_size
            writer.add(info, manifest)

    return fill


def _xattrs(python: Path) -> Callable[[LayerWriter], None]:
    """Files with user attributes, and one executable with cap_net_bind_service."""

    def fill(writer: LayerWriter) -> None:
        for name in ("opt", "opt/labelled"):
            writer.directory(name)
        for number, path in enumerate(_files(python, ".py", XATTR_FILES)):
            info = tarfile.TarInfo(f"opt/labelled/{number}.py")
            info.size = path.stat().st_size
            info.pax_headers = {"SCHILY.xattr.user.origin": path.name}
            writer.add(info, path)
        capability = bytes.fromhex("0100000200040000000000000000000000000000")
        info = tarfile.TarInfo("opt/labelled/server")
        info.mode = 0o755
        info.size = Path("/bin/busybox").stat().st_size
        info.pax_headers = {"SCHILY.xattr.security.capability": capability.decode("latin-1")}
        writer.add(info, Path("/bin/busybox"))

    return fill


def _application(busybox: Path) -> Callable[[LayerWriter], None]:
    """The small last layer that changes with every build."""

    def fill(writer: LayerWriter) -> None:
        writer.parents("srv/app/x")
        for number in range(20):
            info = tarfile.TarInfo(f"srv/app/page-{number}.txt")
            info.size = (busybox / "etc" / "passwd").stat().st_size
            writer.add(info, busybox / "etc" / "passwd")

    return fill


def _files(directory: Path, suffix: str, count: int) -> list[Path]:
    """The first `count` regular files by name."""
    found = sorted(
        path for path in directory.rglob(f"*{suffix}") if path.is_file() and not path.is_symlink()
    )  # fmt: skip
    if len(found) < count:
        raise LookupError(f"Only {len(found)} of {count} files *{suffix} in {directory}")
    return found[:count]


def _busybox(root: Path) -> Path:
    for name in ("bin", "sbin", "etc", "proc", "sys", "dev", "tmp", "root", "run", "var"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin" / "busybox")
    applets = subprocess.run(["/bin/busybox", "--list"], check=True, capture_output=True, text=True).stdout.split()
    for applet in applets:
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "sbin" / "init").symlink_to("../bin/busybox")
    (root / "etc" / "inittab").write_text("::respawn:/bin/sleep 1000000\n")
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc" / "group").write_text("root:x:0:\n")
    return root


def _lxd_image(root: Path) -> None:
    """The same root as a unified LXD image tarball."""
    metadata = b"architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  description: busybox\n"
    with tempfile.NamedTemporaryFile() as file, tarfile.open(LXD_IMAGE, "w:gz") as tar:
        file.write(metadata)
        file.flush()
        tar.add(file.name, "metadata.yaml")
        tar.add(root, "rootfs")


def _debian(root: Path) -> Path:
    _run("mmdebstrap", "--variant=minbase", "bookworm", str(root))
    for name in os.listdir(root / "dev"):
        device = root / "dev" / name
        shutil.rmtree(device) if device.is_dir() and not device.is_symlink() else device.unlink()
    return root


def _wheels(target: Path) -> Path:
    _run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--only-binary", ":all:",
         "--python-version", "3.11", "--platform", "manylinux2014_x86_64",
         "--target", str(target), *WHEELS)  # fmt: skip
    return target


def _npm(directory: Path, packages: tuple[str, ...]) -> Path:
    directory.mkdir()
    (directory / "package.json").write_text('{"name": "bench", "version": "1.0.0", "private": true}')
    _run("npm", "install", "--prefix", str(directory), "--ignore-scripts", "--no-audit", "--no-fund",
         "--loglevel=error", *packages)  # fmt: skip
    return directory / "node_modules"


def _push(tags: list[str]) -> None:
    with Registry(REGISTRY, CACHE / "registry-build.log") as registry:
        for tag in tags:
            _run("skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{LAYOUT}:{tag}",
                 f"docker://{registry.host}/{tag}")  # fmt: skip


def _summarise(layers: list[Layer]) -> ImageSummary:
    return ImageSummary(
        layers=len(layers),
        compressed=sum(layer.size for layer in layers),
        unpacked=sum(layer.unpacked for layer in layers),
        entries=sum(layer.entries for layer in layers),
    )


def _blob(digest: str) -> Path:
    return LAYOUT / "blobs" / "sha256" / digest.removeprefix("sha256:")


def _run(*command: str) -> None:
    print("bench:", " ".join(command[:6]), flush=True)
    subprocess.run(command, check=True)


if __name__ == "__main__":
    for name, image in summary().items():
        print(f"{name}: {image.layers} layers, {image.compressed / 1e6:.0f} MB compressed, "
              f"{image.unpacked / 1e6:.0f} MB, {image.entries:,} entries")  # fmt: skip
