#!/bin/sh
# Install what bench/ compares lxdpy with, from Debian, and start none of it.
#
# The benches start each daemon themselves, on private directories, and stop it again (bench/peers/).
# A policy-rc.d that refuses everything keeps the packages' own services down while they are installed.
set -eu

packages="docker.io podman runc skopeo umoci lxd lxd-client lxcfs docker-registry pigz isal mmdebstrap
          busybox-static nodejs npm python3 iptables attr"

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT INT TERM
fi

missing=""
for package in $packages; do
    # npm comes inside nodesource's nodejs: a command that exists needs no package.
    if [ "$package" = npm ] && command -v npm >/dev/null; then continue; fi
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || { echo "bench: all peers are installed"; exit 0; }
# shellcheck disable=SC2086  # the list is meant to be split
DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $missing
