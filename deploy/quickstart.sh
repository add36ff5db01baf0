#!/bin/sh
# From nothing to a running container, and away again: sudo deploy/quickstart.sh [--keep]
#
#   sets up packages and .venv (deploy/setup.sh demo), starts a registry with token authentication on loopback and
#   pushes a small image there, starts the daemon in a temporary state directory, then pulls, launches, executes, reads
#   the log, and deletes; at the end everything that it started or made is removed.
#
#   --keep        leave daemon, registry and container running, and say how to use and how to remove them
#   --clean DIR   remove what an earlier --keep left
#
#   IMAGE=docker.io/library/alpine:3.20 deploy/quickstart.sh    an image from the Hub instead
#
# Nothing outside the temporary directory is used or changed but: distribution packages, .venv, one bridge with its
# firewall rules, IPv4 forwarding, all named below.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
python=$root/.venv/bin/python
lxdpy=$root/.venv/bin/lxdpy
instance=quickstart
keep=no
work=''

say() { printf '\n==> %s\n' "$*"; }

fail() {
    echo "quickstart: $*" >&2
    exit 1
}

# Show a command as a person would type it, then run it.
show() {
    shown=$(basename "$1")
    first=yes
    for word; do
        [ "$first" = yes ] || case $word in
        *[!A-Za-z0-9_@%+=:,./-]*) shown="$shown '$word'" ;;
        *) shown="$shown $word" ;;
        esac
        first=no
    done
    printf '\n$ %s\n' "$shown"
    "$@"
}

# End the process whose id is in file $1, if it still is what $2 says it is; wait up to $3 seconds.
end_process() {
    [ -s "$1" ] || return 0
    pid=$(cat "$1")
    tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -q -- "$2" || return 0
    kill "$pid" 2>/dev/null || return 0
    tenths=$(($3 * 10))
    while [ -d "/proc/$pid" ] && ! grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null; do
        if [ "$tenths" -eq 0 ]; then
            echo "quickstart: process $pid did not end in $3 s: killing it (log: $work)" >&2
            kill -9 "$pid" 2>/dev/null || true
            return 0
        fi
        tenths=$((tenths - 1))
        sleep 0.1
    done
}

clean() {
    [ -n "$work" ] && [ -d "$work" ] || return 0
    if [ -S "$work/state/unix.socket" ]; then
        LXDPY_SOCKET=$work/state/unix.socket "$lxdpy" delete --force "$instance" >/dev/null 2>&1 || true
    fi
    end_process "$work/daemon.pid" "$work/state" 45
    end_process "$work/registry.pid" example_registry.py 15
    if [ -s "$work/bridge" ]; then
        # It outlives the daemon on purpose.
        dnsmasq=$work/state/networks/$(cat "$work/bridge")
        end_process "$dnsmasq/dnsmasq.pid" "$dnsmasq" 10
        "$python" -I - "$(cat "$work/bridge")" <<'PY' || echo "quickstart: bridge $(cat "$work/bridge") is still there" >&2
import asyncio, sys
from lxdpy.drivers.network import HostNetwork
asyncio.run(HostNetwork().remove_bridge(sys.argv[1]))
PY
    fi
    rm -rf --one-file-system "$work"
}

finish() {
    status=$?
    trap - EXIT INT TERM HUP
    if [ "$status" -ne 0 ] && [ -n "$work" ]; then
        for log in "$work"/*.log; do
            [ -s "$log" ] || continue
            echo "--- end of $(basename "$log")" >&2
            tail -n 20 "$log" >&2
        done
    fi
    if [ "$status" -ne 0 ] || [ "$keep" = no ]; then
        say "Cleaning up"
        clean
    fi
    [ "$status" -eq 0 ] || echo "quickstart: failed (exit code $status)" >&2
    exit "$status"
}

# Wait up to $2 seconds until the command in $3... succeeds, or the process in file $1 is gone.
wait_for() {
    pid_file=$1
    tenths=$(($2 * 10))
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ -d "/proc/$(cat "$pid_file")" ] && [ "$tenths" -gt 0 ] || return 1
        tenths=$((tenths - 1))
        sleep 0.1
    done
}

while [ $# -gt 0 ]; do
    case $1 in
    --keep) keep=yes ;;
    --clean)
        if [ $# -ne 2 ] || [ ! -f "$2/lxdpy.toml" ] || [ ! -f "$2/bridge" ]; then
            fail "--clean DIR: DIR is what --keep named"
        fi
        work=$2
        clean
        exit 0
        ;;
    -h | --help)
        sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p;}' "$0"
        exit 0
        ;;
    *) fail "unknown argument $1 (try --help)" ;;
    esac
    shift
done

[ "$(id -u)" -eq 0 ] || fail "must be root: sudo $0"
[ "$(uname -s)" = Linux ] || fail "needs Linux"
release=$(uname -r)
major=${release%%.*}
minor=${release#*.}
minor=${minor%%[!0-9]*}
[ "$major" -gt 5 ] || { [ "$major" -eq 5 ] && [ "$minor" -ge 19 ]; } ||
    fail "kernel $release is too old: overlay on idmapped layers needs 5.19"

say "Setting up packages and $root/.venv"
sh "$root/deploy/setup.sh" demo

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
work=$(mktemp -d /var/tmp/lxdpy-quickstart.XXXXXX)
chmod 0711 "$work"
# Fifteen characters at most; the process id keeps two runs apart.
bridge=lxdpyq$(($$ % 1000000000))

# A network that no interface has: 10.N.76.0/24.
network=''
for byte in 76 77 99 123 147 171 195 219 243; do
    if ! ip -4 route show table all | grep -Eq "(^|[[:space:]])10\.$byte\."; then
        network=10.$byte.76
        break
    fi
done
[ -n "$network" ] || fail "found no free network for the bridge"

cat >"$work/lxdpy.toml" <<EOT
[network]
bridge = "$bridge"
ipv4_address = "$network.1/24"
EOT

if [ -z "${IMAGE:-}" ]; then
    say "Starting a registry on loopback (token authentication) and pushing an image of three layers"
    setsid "$python" "$root/deploy/example_registry.py" --directory "$work/registry" \
        </dev/null >"$work/registry.log" 2>&1 &
    echo $! >"$work/registry.pid"
    wait_for "$work/registry.pid" 30 test -s "$work/registry/address" || fail "the registry did not start"
    registry=$(cat "$work/registry/address")
    show "$python" "$root/deploy/example_image.py" --registry "$registry" --user demo:demo --name example:1
    image=$registry/example:1
    cat >>"$work/lxdpy.toml" <<EOT

[registry."$registry"]
plain_http = true
EOT
else
    image=$IMAGE
fi

say "Starting the daemon on $work/state"
echo "$bridge" >"$work/bridge"
LXDPY_SOCKET=$work/state/unix.socket
export LXDPY_SOCKET
setsid "$lxdpy" daemon --state-dir "$work/state" --config "$work/lxdpy.toml" \
    </dev/null >"$work/daemon.log" 2>&1 &
echo $! >"$work/daemon.pid"
wait_for "$work/daemon.pid" 30 "$lxdpy" list || fail "the daemon did not start"

say "Pulling: token, manifest, then every layer at once"
show "$lxdpy" image pull "$image"

say "Its ancestry, newest layer first"
show "$lxdpy" image ancestry "$image"

say "Launching a container from it"
if [ -z "${IMAGE:-}" ]; then
    show "$lxdpy" launch "$image" "$instance"
else
    # Most base images run a shell, which ends at once without a terminal.
    show "$lxdpy" launch "$image" "$instance" --entrypoint "sh -c 'echo hello from the registry; exec sleep 3600'"
fi

say "Running a command in it"
show "$lxdpy" exec "$instance" -- sh -c 'id; ls /; hostname'

say "What its own process printed"
show "$lxdpy" logs "$instance"

show "$lxdpy" list

if [ "$keep" = yes ]; then
    say "Kept. To use it, in a shell of root's (sudo -s):"
    cat <<EOT

    export LXDPY_SOCKET=$LXDPY_SOCKET
    PATH=$root/.venv/bin:\$PATH
    lxdpy exec $instance sh
EOT
    if [ -z "${IMAGE:-}" ]; then
        cat <<EOT

    What the examples of api/rest-api.md need:

    export SOCKET=\$LXDPY_SOCKET REGISTRY=http://$registry
EOT
    fi
    cat <<EOT

    To remove it:

    sudo $root/deploy/quickstart.sh --clean $work
EOT
else
    say "Deleting the container"
    show "$lxdpy" delete --force "$instance"
    show "$lxdpy" list
fi
say "Done."
