"""The `lxdpy` command. Everything is imported by the command that needs it, so that each starts fast."""


def main() -> None:
    """Console script."""
    from lxdpy.cli.app import app

    app(prog_name="lxdpy")
