"""The command line's grammar: names, options and help. What the commands do is in the modules that they import."""

from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from lxdpy.cli.output import Format

if TYPE_CHECKING:
    from lxdpy.client import AsyncClient
    from lxdpy.client.requests import CreateOptions

ARGV = "lxdpy.argv"


class ArgvCommand(TyperCommand):
    """A command whose line may end in `-- CMD...`: all after the first `--` is kept apart, in `ctx.meta[ARGV]`."""

    tail: tuple[str, ...] = ("[-- CMD...]",)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Cut the command off before the options are read."""
        cut = self.cut(args)
        ctx.meta[ARGV] = args[cut + 1 :] if args[cut : cut + 1] == ["--"] else args[cut:]
        return super().parse_args(ctx, args[:cut])

    def cut(self, args: list[str]) -> int:
        """Where our own words end."""
        return args.index("--") if "--" in args else len(args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The command comes last."""
        return [*super().collect_usage_pieces(ctx), *self.tail]


class ExecCommand(ArgvCommand):
    """`NAME CMD...`, as docker takes it, or `NAME -- CMD...`, as LXD does: from CMD on nothing is an option of ours."""

    tail = ("[--]", "CMD...")

    def cut(self, args: list[str]) -> int:
        """At `--`, or at the second word that is neither an option nor the value of one."""
        options = [parameter for parameter in self.params if parameter.param_type_name == "option"]
        valued = {name for option in options if not getattr(option, "is_flag", False) for name in option.opts}
        words, position = 0, 0
        while position < len(args) and args[position] != "--":
            word = args[position]
            if not word.startswith("-") or word == "-":
                words += 1
                if words == 2:
                    break
            elif _last_option(word, valued) in valued:
                position += 1
            position += 1
        return min(position, len(args))


def _last_option(word: str, valued: Collection[str]) -> str:
    """The option whose value would be the next word: `--env`, the e of `-te`, but nothing of `-eA=b` or `--env=A=b`."""
    if word.startswith("--"):
        return word
    for place, letter in enumerate(word[1:], 2):
        if f"-{letter}" in valued:
            return f"-{letter}" if place == len(word) else ""
    return ""


def _complete_instances(incomplete: str) -> list[str]:
    from lxdpy.cli.completion import instance_names

    return [name for name in instance_names() if name.startswith(incomplete)]


def _complete_images(incomplete: str) -> list[str]:
    from lxdpy.cli.completion import image_names

    return [name for name in image_names() if name.startswith(incomplete)]


app = typer.Typer(
    help="Containers from Docker/OCI images behind the LXD API.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
image_app = typer.Typer(help="Pull, show and delete images.", no_args_is_help=True)
operation_app = typer.Typer(help="Show and cancel background operations.", no_args_is_help=True)
app.add_typer(image_app, name="image")
app.add_typer(operation_app, name="operation")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Instance.", autocompletion=_complete_instances)]
Names = Annotated[list[str], typer.Argument(metavar="NAME", help="Instances.", autocompletion=_complete_instances)]
ImageName = Annotated[
    str,
    typer.Argument(metavar="IMAGE", help="Alias, or the beginning of a fingerprint.", autocompletion=_complete_images),
]
ImageNames = Annotated[
    list[str], typer.Argument(metavar="IMAGE", help="Aliases or fingerprints.", autocompletion=_complete_images)
]
Source = Annotated[
    str,
    typer.Argument(
        metavar="IMAGE",
        help="Reference to pull (alpine:3.20, ghcr.io/org/app@sha256:...), or local:ALIAS.",
        autocompletion=_complete_images,
    ),
]
NewName = Annotated[str | None, typer.Argument(metavar="NAME", help="Its name; the server picks one if left out.")]
Show = Annotated[Format, typer.Option("--format", "-f", help="What to print.")]
Server = Annotated[str | None, typer.Option(help="Registry to pull from, as https://HOST.")]
Config = Annotated[
    list[str] | None, typer.Option("--config", "-c", metavar="KEY=VALUE", help="Configuration key; may be repeated.")
]
Env = Annotated[
    list[str] | None, typer.Option("--env", "-e", metavar="KEY=VALUE", help="Environment variable; may be repeated.")
]
Profile = Annotated[list[str] | None, typer.Option("--profile", "-p", metavar="NAME", help="Profile; may be repeated.")]
Entrypoint = Annotated[str | None, typer.Option(help="Replaces the image's entrypoint; split as a shell does.")]
WorkDir = Annotated[str | None, typer.Option("--cwd", help="Working directory.")]
Privileged = Annotated[
    bool, typer.Option("--privileged", help="Without a user namespace: root inside is root outside.")
]
Ephemeral = Annotated[bool, typer.Option("--ephemeral", "--rm", help="Delete it when it stops.")]
Timeout = Annotated[float | None, typer.Option(help="Seconds to wait.")]
StopTimeout = Annotated[int, typer.Option(min=0, help="Seconds it has before it is killed.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"lxdpy {version('lxdpy')}")
        raise typer.Exit


@app.callback()
def common(
    ctx: typer.Context,
    socket: Annotated[
        str | None,
        typer.Option(
            envvar="LXDPY_SOCKET",
            help="The daemon's unix socket; else $LXD_DIR/unix.socket, or /var/lib/lxdpy/unix.socket.",
            show_envvar=True,
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show this command's version and exit."),
    ] = False,
) -> None:
    """Containers from Docker/OCI images behind the LXD API."""
    ctx.obj = socket


@app.command()
def daemon(
    state_dir: Annotated[Path, typer.Option(help="Where everything lies.")] = Path("/var/lib/lxdpy"),
    config: Annotated[Path | None, typer.Option(help="Instead of /etc/lxdpy/lxdpy.toml, which may be missing.")] = None,
    group: Annotated[str, typer.Option(help="Group that may use the socket: it is as good as root.")] = "lxdpy",
    debug: Annotated[bool, typer.Option("--debug", help="Log more.")] = False,
) -> None:
    """Run the daemon in the foreground."""
    import os
    import sys

    # A new interpreter: what the command line needed would stay in the daemon's memory for good. -P: whatever lies in
    # the current directory is not imported.
    command = [sys.executable, "-P", "-m", "lxdpy", "--state-dir", str(state_dir), "--group", group]
    if config is not None:
        command += ["--config", str(config)]
    if debug:
        command.append("--debug")
    os.execv(sys.executable, command)


@app.command(cls=ArgvCommand)
def launch(
    ctx: typer.Context,
    image: Source,
    name: NewName = None,
    config: Config = None,
    env: Env = None,
    profile: Profile = None,
    entrypoint: Entrypoint = None,
    cwd: WorkDir = None,
    privileged: Privileged = False,
    ephemeral: Ephemeral = False,
    attach: Annotated[
        bool, typer.Option("--attach/--detach", "-a/-d", help="Show its output, and exit as it does.")
    ] = False,
    server: Server = None,
) -> None:
    """Create an instance and start it. CMD replaces the image's arguments and keeps its entrypoint."""
    from lxdpy.cli import instances

    options = _options(ctx, config, env, profile, entrypoint, cwd, privileged, ephemeral)
    _run(ctx, lambda client: instances.launch(client, image, name, server=server, attach=attach, options=options))


@app.command(cls=ArgvCommand)
def create(
    ctx: typer.Context,
    image: Source,
    name: NewName = None,
    config: Config = None,
    env: Env = None,
    profile: Profile = None,
    entrypoint: Entrypoint = None,
    cwd: WorkDir = None,
    privileged: Privileged = False,
    ephemeral: Ephemeral = False,
    server: Server = None,
) -> None:
    """Create an instance and leave it stopped (also: init)."""
    from lxdpy.cli import instances

    options = _options(ctx, config, env, profile, entrypoint, cwd, privileged, ephemeral)
    _run(ctx, lambda client: instances.init(client, image, name, server=server, options=options))


app.command("init", cls=ArgvCommand, hidden=True)(create)


@app.command("list")
def list_(ctx: typer.Context, output: Show = Format.TABLE) -> None:
    """List instances."""
    from lxdpy.cli import instances

    _run(ctx, lambda client: instances.show_list(client, output))


@app.command()
def info(ctx: typer.Context, name: Name, output: Show = Format.TABLE) -> None:
    """Show an instance."""
    from lxdpy.cli import instances

    _run(ctx, lambda client: instances.info(client, name, output))


@app.command("exec", cls=ExecCommand)
def exec_(
    ctx: typer.Context,
    name: Name,
    tty: Annotated[
        bool | None,
        typer.Option(
            "--tty/--no-tty",
            "-t/-T",
            help="With or without a terminal; left out, with one if input and output are one here.",
            show_default=False,
        ),
    ] = None,
    env: Env = None,
    cwd: WorkDir = None,
    user: Annotated[int | None, typer.Option(help="User id.")] = None,
    group: Annotated[int | None, typer.Option(help="Group id.")] = None,
) -> None:
    """Run a command in an instance and exit as it does.

    127: not found, 126: not executable, 128 + N: ended by signal N.
    """
    from lxdpy.cli.terminal import execute

    argv = ctx.meta[ARGV]
    if not argv:
        raise typer.BadParameter("missing: lxdpy exec NAME -- CMD...", param_hint="CMD")
    environment = _pairs(env, "--env")
    _run(
        ctx,
        lambda client: execute(client, name, argv, tty=tty, environment=environment, cwd=cwd, user=user, group=group),
    )


@app.command()
def logs(
    ctx: typer.Context,
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until it stops.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", "-n", min=0, help="Only the last lines.")] = None,
) -> None:
    """Show what an instance wrote to its console."""
    from lxdpy.cli import instances

    _run(ctx, lambda client: instances.logs(client, name, follow=follow, tail=tail))


@app.command()
def start(ctx: typer.Context, names: Names) -> None:
    """Start instances."""
    _change(ctx, names, "start")


@app.command()
def stop(
    ctx: typer.Context,
    names: Names,
    force: Annotated[bool, typer.Option("--force", "-f", help="Kill it.")] = False,
    timeout: StopTimeout = 10,
    signal: Annotated[str | None, typer.Option(help="Signal that asks it to stop, as SIGINT.")] = None,
) -> None:
    """Stop instances: ask, then kill."""
    _change(ctx, names, "stop", force=force, timeout_s=timeout, signal=signal, kill=True)


@app.command()
def restart(
    ctx: typer.Context,
    names: Names,
    force: Annotated[bool, typer.Option("--force", "-f", help="Kill it.")] = False,
    timeout: StopTimeout = 10,
) -> None:
    """Stop and start instances."""
    _change(ctx, names, "restart", force=force, timeout_s=timeout, kill=True)


@app.command()
def freeze(ctx: typer.Context, names: Names) -> None:
    """Hold all processes of instances."""
    _change(ctx, names, "freeze")


@app.command()
def unfreeze(ctx: typer.Context, names: Names) -> None:
    """Let the processes of frozen instances go on."""
    _change(ctx, names, "unfreeze")


@app.command()
def delete(
    ctx: typer.Context,
    names: Names,
    force: Annotated[bool, typer.Option("--force", "-f", help="Kill it first if it runs.")] = False,
) -> None:
    """Delete instances."""
    _change(ctx, names, "delete", force=force)


@app.command()
def wait(ctx: typer.Context, name: Name, timeout: Timeout = None, output: Show = Format.TABLE) -> None:
    """Wait until an instance stops, and print its exit code."""
    from lxdpy.cli import instances

    _run(ctx, lambda client: instances.wait(client, name, timeout_s=timeout, output=output))


@app.command()
def version(ctx: typer.Context, output: Show = Format.TABLE) -> None:
    """Show the versions of client and daemon."""
    from lxdpy.cli.server import show_version

    _run(ctx, lambda client: show_version(client, output))


@image_app.command("pull")
def image_pull(
    ctx: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="REF", help="alpine:3.20, ghcr.io/org/app@sha256:...")],
    server: Server = None,
) -> None:
    """Pull an image from a registry and print its fingerprint."""
    from lxdpy.cli import images

    _run(ctx, lambda client: images.pull(client, reference, server=server))


@image_app.command("list")
def image_list(ctx: typer.Context, output: Show = Format.TABLE) -> None:
    """List local images."""
    from lxdpy.cli import images

    _run(ctx, lambda client: images.show_list(client, output))


@image_app.command("info")
def image_info(ctx: typer.Context, image: ImageName, output: Show = Format.TABLE) -> None:
    """Show an image."""
    from lxdpy.cli import images

    _run(ctx, lambda client: images.info(client, image, output))


@image_app.command("ancestry")
def image_ancestry(ctx: typer.Context, image: ImageName, output: Show = Format.TABLE) -> None:
    """Show the layers that an image stands on, newest first."""
    from lxdpy.cli import images

    _run(ctx, lambda client: images.ancestry(client, image, output))


@image_app.command("delete")
def image_delete(ctx: typer.Context, names: ImageNames) -> None:
    """Delete local images."""
    from lxdpy.cli import images

    _run(ctx, lambda client: images.delete(client, names))


@operation_app.command("list")
def operation_list(ctx: typer.Context, output: Show = Format.TABLE) -> None:
    """List operations that run or ended just now."""
    from lxdpy.cli import images

    _run(ctx, lambda client: images.show_operations(client, output))


@operation_app.command("cancel")
def operation_cancel(ctx: typer.Context, id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Cancel an operation."""
    from lxdpy.cli import images

    _run(ctx, lambda client: images.cancel_operation(client, id))


def _run(ctx: typer.Context, action: "Callable[[AsyncClient], Awaitable[int | None]]") -> NoReturn:
    from lxdpy.cli.session import run

    run(ctx.obj, action)


def _change(ctx: typer.Context, names: list[str], verb: str, **arguments: object) -> NoReturn:
    from lxdpy.cli import instances

    _run(ctx, lambda client: instances.change(client, names, verb, **arguments))


def _options(
    ctx: typer.Context,
    config: list[str] | None,
    env: list[str] | None,
    profile: list[str] | None,
    entrypoint: str | None,
    cwd: str | None,
    privileged: bool,
    ephemeral: bool,
) -> "CreateOptions":
    return {
        "argv": ctx.meta[ARGV],
        "entrypoint": entrypoint,
        "environment": _pairs(env, "--env"),
        "cwd": cwd,
        "privileged": privileged,
        "ephemeral": ephemeral,
        "config": _pairs(config, "--config"),
        "profiles": profile,
    }


def _pairs(values: list[str] | None, option: str) -> dict[str, str]:
    """KEY=VALUE options as a mapping."""
    pairs: dict[str, str] = {}
    for item in values or ():
        key, equals, value = item.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"{item!r} is not KEY=VALUE", param_hint=option)
        pairs[key] = value
    return pairs
