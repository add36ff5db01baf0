"""The `lxdpy` command. Everything is imported by the command that needs it, so that each starts fast."""

import os
import sys


def main() -> None:
    """Console script."""
    _open_streams()
    from lxdpy.cli.app import app

    app(prog_name="lxdpy")


def _open_streams() -> None:
    """What we were started without (`<&-`) is /dev/null: no socket of ours may come to lie on 0, 1 or 2."""
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != fd:
                os.dup2(opened, fd)
                os.close(opened)
            setattr(sys, name, open(fd, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - as long as we live
