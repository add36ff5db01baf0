#!/bin/sh
# Every check and every test: sudo tests/run.sh [pytest arguments]
#
# Sets up what they need first (deploy/setup.sh test). Quick checks come first; all run, whatever fails, and the exit code
# is 0 only if nothing did. A test that needs an ability which this machine lacks fails instead of being skipped
# (tests/conftest.py); LXDPY_REQUIRE=root,lxc names fewer abilities, LXDPY_REQUIRE= none.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root"
bin=$root/.venv/bin
failed=''

check() {
    name=$1
    shift
    printf '\n==> %s\n' "$name"
    "$@" </dev/null || failed="$failed $name"
}

sh deploy/setup.sh test
export LXDPY_REQUIRE="${LXDPY_REQUIRE-all}"
# Nobody's settings but the project's.
unset PYTHONPATH PYTHONHOME PYTEST_ADDOPTS LXD_DIR LXD_SOCKET LXDPY_SOCKET || true

check format "$bin/ruff" format --check .
check lint "$bin/ruff" check .
check shellcheck find . \( -name '.?*' ! -name .ci -prune \) -o \( -name '*.sh' -o -path ./.ci/run \) -exec shellcheck {} +
check types "$bin/mypy"
check types-of-tools "$bin/mypy" deploy/*.py tests/conftest.py
check imports "$bin/lint-imports" --no-cache

printf '\n==> tests\n'
"$bin/python" -m pytest "$@" </dev/null || failed="$failed tests"

if [ -n "$failed" ]; then
    echo "FAILED:$failed" >&2
    exit 1
fi
echo "all checks passed"
