"""What an instance runs: the image's defaults, overridden by its configuration, computed anew at each start.

A system runs its own init, which is asked to halt as it likes; commands in it get what LXD gives them.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from lxdpy.errors import InvalidRequestError
from lxdpy.oci.image_config import ImageConfig
from lxdpy.services.instances.settings import parse_signal

INIT = "/sbin/init"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Process:
    """PID 1 of an instance."""

    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    user: str
    cwd: str
    stop_signal: int | None
    """None: what the init of this system heeds."""
    commands_environment: tuple[tuple[str, str], ...]
    """Of what is executed beside it."""
    commands_cwd: str
    """"" is the home of who executes it."""
    is_system: bool = False


def system(config: Mapping[str, str]) -> Process:
    """The init of a system; `config` is expanded."""
    variables = _given(config)
    return Process(
        argv=(INIT,),
        environment=tuple(variables.items()),
        user="",
        cwd="/",
        stop_signal=None,
        commands_environment=tuple({"PATH": DEFAULT_PATH, "LANG": "C.UTF-8", **variables}.items()),
        commands_cwd="",
        is_system=True,
    )


def image_defaults(image: ImageConfig) -> dict[str, str]:
    """What the image says, as the configuration keys that would say the same."""
    defaults = {f"environment.{name}": value for name, value in _variables(image).items()}
    for key, value in (
        ("oci.entrypoint", shlex.join(image.entrypoint)),
        ("oci.cmd", shlex.join(image.cmd)),
        ("oci.cwd", image.working_dir),
        ("oci.user", image.user),
        ("oci.stop_signal", image.stop_signal),
    ):
        if value:
            defaults[key] = value
    return defaults


def _environment(name: str, image: ImageConfig, config: Mapping[str, str]) -> dict[str, str]:
    """Variables of everything that runs in an instance."""
    return {"PATH": DEFAULT_PATH, "HOSTNAME": name} | _variables(image) | _given(config)


def _given(config: Mapping[str, str]) -> dict[str, str]:
    prefix = "environment."
    return {key.removeprefix(prefix): value for key, value in config.items() if key.startswith(prefix)}


def process(name: str, image: ImageConfig, config: Mapping[str, str]) -> Process:
    """The process that starting instance `name` runs. Raises InvalidRequestError when nothing says what to run."""
    if entrypoint := config.get("oci.entrypoint"):
        argv = (*shlex.split(entrypoint), *shlex.split(config.get("oci.cmd", "")))
    elif "oci.cmd" in config:
        argv = (*image.entrypoint, *shlex.split(config["oci.cmd"]))
    else:
        argv = (*image.entrypoint, *image.cmd)
    if not argv:
        raise InvalidRequestError(
            f'Cannot start instance "{name}": its image has neither entrypoint nor command; set oci.entrypoint'
        )
    values = (*argv, image.working_dir, image.user)
    if any(char in value for char in "\0\n\r" for value in values[len(argv) :]) or any("\0" in word for word in argv):
        raise InvalidRequestError(f'Cannot start instance "{name}": line break or NUL in what its image wants to run')
    environment = tuple(_environment(name, image, config).items())
    cwd = config.get("oci.cwd") or image.working_dir or "/"
    return Process(
        argv=argv,
        environment=environment,
        user=user_of(image, config),
        cwd=cwd,
        commands_environment=environment,
        commands_cwd=cwd,
        stop_signal=parse_signal(config.get("oci.stop_signal") or image.stop_signal or "SIGTERM"),
    )


def user_of(image: ImageConfig, config: Mapping[str, str]) -> str:
    user, _, group = (config.get("oci.user") or image.user).partition(":")
    uid, gid = config.get("oci.uid"), config.get("oci.gid")
    if uid:
        user, group = uid, ""
    if gid:
        user, group = user or "0", gid
    return f"{user}:{group}" if group else user


def _variables(image: ImageConfig) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in image.env)
    return {name: value for name, separator, value in pairs if name and separator}
