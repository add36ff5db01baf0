"""`python -m lxdpy`: the daemon."""

import argparse
import sys
from pathlib import Path

from lxdpy.config import DEFAULT_CONFIG_FILE, DEFAULT_STATE_DIR
from lxdpy.daemon.main import run


def main() -> int:
    """Parse the command line and run the daemon; returns the exit code."""
    parser = argparse.ArgumentParser(prog="lxdpy daemon", description="Serve the API on STATE_DIR/unix.socket.")
    parser.add_argument("--state-dir", type=Path, default=DEFAULT_STATE_DIR, help="everything lies here (%(default)s)")
    parser.add_argument("--config", type=Path, help=f"configuration file ({DEFAULT_CONFIG_FILE}, where it exists)")
    parser.add_argument("--group", default="lxdpy", help="group that may use the socket, where it exists (%(default)s)")
    parser.add_argument("--debug", action="store_true", help="log more")
    options = parser.parse_args()
    return run(options.state_dir, options.config, options.group, options.debug)


if __name__ == "__main__":
    sys.exit(main())
