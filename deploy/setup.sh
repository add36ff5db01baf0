#!/bin/sh
# Prepare this checkout: distribution packages, and .venv on the distribution's Python.
#
#   sudo deploy/setup.sh packages what deploy/install.sh needs of the distribution; no .venv
#   sudo deploy/setup.sh run      what the daemon and the command need
#   sudo deploy/setup.sh demo     run, and what deploy/quickstart.sh needs
#   sudo deploy/setup.sh test     demo, and what tests/run.sh needs
#   sudo deploy/setup.sh bench    test, and the peers that bench/ compares with
#
# Debian 12 and 13, Ubuntu 24.04. What is there already is left alone: a second run takes a moment.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
venv=$root/.venv
# Never a python3 from PATH (pyenv and the like): the liblxc bindings belong to the distribution's.
python=/usr/bin/python3

# liblxc-common: seccomp policy and AppArmor profiles. The lxc package itself is not needed, and would bring up lxcbr0.
run_packages="dnsmasq-base liblxc-common python3-lxc python3-nftables python3-venv ca-certificates squashfs-tools-ng"
demo_packages="busybox-static docker-registry iproute2 openssl"
# lxc: the probe's tests compare with lxc-start and lxc-info, which python3-lxc does not bring.
test_packages="curl debian-archive-keyring iptables jq lxc mmdebstrap nftables shellcheck skopeo"
# Tests that drive these skip where a release does not have them. Tests start an LXD of their own: the package's stays down.
test_wanted="lxd lxd-client umoci"

fail() {
    echo "setup: $*" >&2
    exit 1
}

installed() {
    dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed
}

missing() {
    for package; do
        installed "$package" || printf ' %s' "$package"
    done
}

apt() {
    # Waits for an unattended upgrade that holds dpkg's lock.
    DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

install_packages() {
    wanted=$(missing "$@")
    [ -n "$wanted" ] || return 0
    [ "$(id -u)" -eq 0 ] || fail "packages are missing and need root:$wanted (run: sudo $0 $mode)"
    had_registry=yes
    installed docker-registry || had_registry=no
    echo "setup: installing$wanted"
    # A broken third-party source must not stop us: the install below tells whether it matters. The timeout above does
    # not cover the lock of the package lists, so that is tried again.
    attempt=1
    until apt update >/dev/null; do
        [ "$attempt" -lt 5 ] || { echo "setup: apt-get update failed, going on with the lists at hand" >&2; break; }
        attempt=$((attempt + 1))
        sleep 3
    done
    # shellcheck disable=SC2086  # the list is meant to be split
    apt install -y --no-install-recommends $wanted >/dev/null || fail "apt-get could not install:$wanted"
    # The package's own service would offer an empty registry on port 5000. Nobody asked for that.
    if [ "$had_registry" = no ] && installed docker-registry && [ -d /run/systemd/system ]; then
        systemctl disable --now --quiet docker-registry.service
    fi
}

install_wanted() {
    for package in $(missing "$@"); do
        if ! apt-cache show "$package" >/dev/null 2>&1; then
            echo "setup: $package is not in this release, going on without"
        elif [ "$package" = lxd ]; then
            install_lxd
        else
            install_packages "$package"
        fi
    done
}

# Nobody asked for an LXD that runs: no service starts while its packages are unpacked, and none of them at boot.
install_lxd() {
    case $(apt-cache show lxd) in
    *snap*)
        echo "setup: lxd is a snap in this release, going on without"
        return 0
        ;;
    esac
    policy=/usr/sbin/policy-rc.d
    [ ! -e "$policy" ] || policy=''
    if [ -n "$policy" ] && [ "$(id -u)" -eq 0 ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f "$policy"' EXIT
        trap 'exit 1' INT TERM
    fi
    units="lxd.socket lxd.service lxd-containers.service"
    installed lxcfs || units="$units lxcfs.service"
    install_packages lxd
    if [ -n "$policy" ]; then
        rm -f "$policy"
        trap - EXIT INT TERM
    fi
    [ -d /run/systemd/system ] || return 0
    for unit in $units; do
        [ ! -e "/lib/systemd/system/$unit" ] || systemctl disable --quiet "$unit"
    done
}

make_venv() {
    extras=$1
    # The stamp says what the environment was made from; editable, so the code itself does not count.
    stamp="$extras $("$python" -c 'import sys; print(sys.version)') $(cksum <"$root/pyproject.toml")"
    if [ -f "$venv/.lxdpy-setup" ]; then
        case "$(cat "$venv/.lxdpy-setup")" in
        # The tests' set holds all of the others.
        "$stamp" | "cli,daemon,dev ${stamp#* }") return 0 ;;
        esac
    fi
    # Whatever was there stays if it works and is of the right Python, so that an upgrade is an upgrade.
    if ! "$venv/bin/python" -c 'import sys, pip, _lxc; sys.exit(sys.base_prefix != "/usr")' 2>/dev/null; then
        echo "setup: making $venv"
        "$python" -m venv --clear --system-site-packages "$venv"
    fi
    echo "setup: installing lxdpy[$extras] into $venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
        --editable "${root}[$extras]" </dev/null || fail "pip could not install lxdpy[$extras]"
    "$venv/bin/python" -c 'import _lxc, nftables, lxdpy' || fail "$venv does not see the distribution's modules"
    printf '%s\n' "$stamp" >"$venv/.lxdpy-setup"
}

mode=${1:-run}
if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    fail "no apt here: see \"Other distributions\" in docs/operations.md"
fi

case $mode in
packages | run) packages=$run_packages wanted_packages='' extras=cli,daemon ;;
demo) packages="$run_packages $demo_packages" wanted_packages='' extras=cli,daemon ;;
test | bench) packages="$run_packages $demo_packages $test_packages" wanted_packages=$test_wanted extras=cli,daemon,dev ;;
*) fail "unknown mode $mode: expected packages, run, demo, test or bench" ;;
esac

# Two at once in one checkout would break each other's environment.
mkdir -p "$root/.cache"
exec 9>"$root/.cache/setup.lock"
flock -w 600 9 || fail "another set-up holds $root/.cache/setup.lock"

# shellcheck disable=SC2086  # the lists are meant to be split
install_packages $packages
# shellcheck disable=SC2086
install_wanted $wanted_packages
[ -x "$python" ] || fail "$python is missing"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$python is older than 3.11"
[ "$mode" = packages ] || make_venv "$extras"
case $mode in
test | bench) sh "$root/tests/clients.sh" ;;
esac
if [ "$mode" = bench ]; then
    sh "$root/bench/setup.sh"
fi
