#!/bin/sh
# Install lxdpy on this host, or remove it: sudo deploy/install.sh
#
#   --wheel FILE   install this wheel instead of the checkout
#   --prefix DIR   the virtual environment (default /opt/lxdpy)
#   --no-start     install the units, enable and start nothing
#   --uninstall    remove what an installation brought; state, configuration and group stay
#
# Installs the virtual environment, /usr/local/bin/lxdpy, units, sysctl settings, completion for bash and zsh, and
# /etc/lxdpy/lxdpy.toml unless there is one; makes the group lxdpy. Running it again upgrades. Containers keep running.
#
# DESTDIR=DIR puts every file below DIR and leaves group, services and kernel settings alone.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
destdir=${DESTDIR:-}
prefix=/opt/lxdpy
source=''
start=yes
action=install

fail() {
    echo "install: $*" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case $1 in
    --wheel | --prefix)
        [ $# -ge 2 ] || fail "$1 needs a value"
        if [ "$1" = --wheel ]; then source=$2; else prefix=$2; fi
        shift
        ;;
    --no-start) start=no ;;
    --uninstall) action=uninstall ;;
    -h | --help)
        sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p;}' "$0"
        exit 0
        ;;
    *) fail "unknown argument $1 (try --help)" ;;
    esac
    shift
done
case $prefix in
/*[!/]*) ;;
*) fail "--prefix must be an absolute path below /" ;;
esac
[ "$(id -u)" -eq 0 ] || fail "must be root: sudo $0"

venv=$destdir$prefix
units=$destdir/etc/systemd/system
settings=$destdir/etc/sysctl.d/60-lxdpy.conf
command=$destdir/usr/local/bin/lxdpy
bash_completion=$destdir/usr/share/bash-completion/completions/lxdpy
zsh_completion=$destdir/usr/share/zsh/vendor-completions/_lxdpy
config=$destdir/etc/lxdpy/lxdpy.toml

# Is there a systemd that we may talk to?
has_systemd() { [ -z "$destdir" ] && [ -d /run/systemd/system ]; }

uninstall() {
    if has_systemd; then
        for unit in lxdpy.service lxdpy.socket; do
            [ ! -e "$units/$unit" ] || systemctl disable --now --quiet "$unit"
        done
    fi
    rm -f "$units/lxdpy.service" "$units/lxdpy.socket" "$settings" "$bash_completion" "$zsh_completion"
    [ ! -L "$command" ] || rm -f "$command"
    # Only what is an environment of lxdpy: --prefix may have been mistyped.
    if [ -d "$venv" ]; then
        { [ -f "$venv/pyvenv.cfg" ] && [ -e "$venv/bin/lxdpy" ]; } || fail "$venv is no installation of lxdpy"
        rm -rf "$venv"
    fi
    if has_systemd; then systemctl daemon-reload; fi
    echo "install: removed. Left: /var/lib/lxdpy, /etc/lxdpy, group lxdpy, running containers, packages"
}

pip_install() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
        --upgrade "$@" </dev/null
}

install_venv() {
    if ! "$venv/bin/python" -c 'import sys, pip, _lxc; sys.exit(sys.base_prefix != "/usr")' 2>/dev/null; then
        /usr/bin/python3 -m venv --clear --system-site-packages "$venv"
    fi
    if [ -z "$source" ]; then
        # A copy: building in the checkout would leave files of root's there, and pick up stale ones.
        build=$(mktemp -d)
        trap 'rm -rf "$build"' EXIT INT TERM
        cp -R "$root/pyproject.toml" "$root/README.md" "$root/lxdpy" "$build/"
        source=$build
    fi
    pip_install "${source}[cli,daemon]"
    # Of a directory pip takes the code anew; of a wheel only if the version differs.
    case $source in
    *.whl) pip_install --force-reinstall --no-deps "$source" ;;
    esac
    "$venv/bin/python" -c 'import _lxc, nftables, lxdpy' || fail "$venv does not see python3-lxc and python3-nftables"
}

install_completion() {
    install -d "$(dirname "$bash_completion")" "$(dirname "$zsh_completion")"
    _LXDPY_COMPLETE=source_bash "$venv/bin/lxdpy" >"$bash_completion"
    # zsh wants #compdef in the first line; typer prints an empty one before it.
    _LXDPY_COMPLETE=source_zsh "$venv/bin/lxdpy" | sed '/./,$!d' >"$zsh_completion"
    chmod 0644 "$bash_completion" "$zsh_completion"
}

install_file() {
    install -D -m 0644 "$1" "$2"
    # The shipped units name the default prefix.
    [ "$prefix" = /opt/lxdpy ] || sed -i "s|/opt/lxdpy|$prefix|g" "$2"
}

if [ "$action" = uninstall ]; then
    uninstall
    exit 0
fi

sh "$root/deploy/setup.sh" packages
install_venv
install_completion
install_file "$root/docs/operations.md" "$venv/share/doc/operations.md"
install_file "$root/deploy/lxdpy.service" "$units/lxdpy.service"
install_file "$root/deploy/lxdpy.socket" "$units/lxdpy.socket"
install_file "$root/deploy/lxdpy-sysctl.conf" "$settings"
[ -e "$config" ] || install_file "$root/deploy/lxdpy.toml" "$config"
install -d "$(dirname "$command")"
ln -sfn "$prefix/bin/lxdpy" "$command"

if [ -n "$destdir" ]; then
    # Scripts name the interpreter where it will be, not where it is now.
    grep -rlIZ -- "$venv" "$venv/bin" "$venv/pyvenv.cfg" | xargs -0 -r sed -i "s|$venv|$prefix|g"
    echo "install: files are below $destdir"
    exit 0
fi
getent group lxdpy >/dev/null || groupadd --system lxdpy
if ! command -v sysctl >/dev/null; then
    echo "install: no sysctl command here: the settings of $settings apply from the next boot" >&2
elif ! sysctl -q -p "$settings"; then
    echo "install: the kernel refused some settings of $settings" >&2
fi
if has_systemd; then
    systemctl daemon-reload
    if [ "$start" = yes ]; then
        systemctl enable --quiet lxdpy.service
        systemctl restart lxdpy.service
        echo "install: lxdpy.service runs. Members of group lxdpy may use it, and are as good as root."
    fi
else
    echo "install: no systemd runs here: start the daemon with $command daemon"
fi
