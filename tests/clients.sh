#!/bin/sh
# Other people's clients of LXD, as PyPI has them, in .cache/clients: what tests/system runs against the daemon.
#
#   venv/            pylxd, ansible-core, pytest
#   pylxd/           pylxd's own integration tests, which only its source package has
#   collections/     Ansible's collections community.general (LXD's modules) and ansible.posix (results as JSON), out of
#                    the package `ansible`, which is 40 times as large
#
# What is there already is left alone.
set -eu

pylxd=2.4.2
ansible=12.3.0
ansible_core=2.19.5

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
place=$root/.cache/clients
stamp="$pylxd $ansible $ansible_core $(/usr/bin/python3 -c 'import sys; print(sys.version)')"
[ "$(cat "$place/stamp" 2>/dev/null)" != "$stamp" ] || exit 0

echo "clients: installing pylxd $pylxd and Ansible $ansible_core into $place"
rm -rf "$place"
mkdir -p "$place/download"
/usr/bin/python3 -m venv "$place/venv"
pip() {
    "$place/venv/bin/python" -m pip --quiet --disable-pip-version-check "$@" </dev/null
}
pip install "pylxd==$pylxd" "ansible-core==$ansible_core" pytest pytest-timeout
pip download --no-deps --dest "$place/download" "ansible==$ansible"
pip download --no-deps --no-binary :all: --dest "$place/download" "pylxd==$pylxd"
"$place/venv/bin/python" - "$place" <<'PYTHON'
import pathlib, sys, tarfile, zipfile

place = pathlib.Path(sys.argv[1])
(wheel,) = place.glob("download/ansible-*.whl")
with zipfile.ZipFile(wheel) as archive:
    wanted = ("ansible_collections/community/general/", "ansible_collections/ansible/posix/")
    archive.extractall(place / "collections", [name for name in archive.namelist() if name.startswith(wanted)])
(source,) = place.glob("download/pylxd-*.tar.gz")
with tarfile.open(source) as archive:
    for member in archive.getmembers():
        _, _, member.name = member.name.partition("/")
        if member.name.startswith("integration/"):
            archive.extract(member, place / "pylxd")
PYTHON
rm -r "$place/download"
printf '%s\n' "$stamp" >"$place/stamp"
