import pytest

from lxdpy.errors import InvalidRequestError
from lxdpy.oci.image_config import ImageConfig
from lxdpy.services.instances.process import DEFAULT_PATH, image_defaults, process, system


def image(**changes: object) -> ImageConfig:
    values: dict[str, object] = {
        "os": "linux",
        "architecture": "amd64",
        "variant": "",
        "created": "",
        "env": ("FOO=image", "BAR=a=b"),
        "entrypoint": ("/entry",),
        "cmd": ("serve", "all day"),
        "user": "",
        "working_dir": "",
        "stop_signal": "",
        "exposed_ports": (),
        "volumes": (),
        "labels": {},
        "diff_ids": (),
        "history": (),
    }
    return ImageConfig(**{**values, **changes})  # type: ignore[arg-type]


def test_the_image_decides() -> None:
    run = process("web", image(user="app:www", working_dir="/srv", stop_signal="SIGQUIT"), {})
    assert run.argv == ("/entry", "serve", "all day")
    assert dict(run.environment) == {"PATH": DEFAULT_PATH, "HOSTNAME": "web", "FOO": "image", "BAR": "a=b"}
    assert (run.user, run.cwd, run.stop_signal) == ("app:www", "/srv", 3)


def test_defaults() -> None:
    run = process("web", image(env=("PATH=/only",)), {})
    assert dict(run.environment)["PATH"] == "/only"
    assert (run.user, run.cwd, run.stop_signal) == ("", "/", 15)


@pytest.mark.parametrize(
    ("config", "argv"),
    [
        ({"oci.cmd": "one 'two three'"}, ("/entry", "one", "two three")),
        ({"oci.cmd": ""}, ("/entry",)),
        ({"oci.entrypoint": "/other --flag"}, ("/other", "--flag")),
        ({"oci.entrypoint": "/other", "oci.cmd": "x"}, ("/other", "x")),
    ],
)
def test_argv_overrides(config: dict[str, str], argv: tuple[str, ...]) -> None:
    assert process("web", image(), config).argv == argv


@pytest.mark.parametrize(
    ("own", "config", "user"),
    [
        ("app", {"oci.user": "other:group"}, "other:group"),
        ("app:www", {"oci.uid": "7"}, "7"),
        ("app:www", {"oci.uid": "7", "oci.gid": "8"}, "7:8"),
        ("app:www", {"oci.gid": "8"}, "app:8"),
        ("", {"oci.gid": "8"}, "0:8"),
    ],
)
def test_user_overrides(own: str, config: dict[str, str], user: str) -> None:
    assert process("web", image(user=own), config).user == user


def test_environment_cwd_and_signal_overrides() -> None:
    config = {"environment.FOO": "mine", "environment.NEW": "", "oci.cwd": "/w", "oci.stop_signal": "INT"}
    run = process("web", image(), config)
    assert dict(run.environment)["FOO"] == "mine"
    assert dict(run.environment)["NEW"] == ""
    assert (run.cwd, run.stop_signal) == ("/w", 2)


def test_nothing_to_run() -> None:
    with pytest.raises(InvalidRequestError, match="neither entrypoint nor command"):
        process("web", image(entrypoint=(), cmd=()), {})


@pytest.mark.parametrize("changes", [{"working_dir": "/a\nb"}, {"user": "a\nb"}, {"cmd": ("a\0b",)}])
def test_line_breaks_from_the_image(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError, match="line break or NUL"):
        process("web", image(**changes), {})


def test_an_argument_may_have_line_breaks() -> None:
    assert process("web", image(entrypoint=("sh", "-c", "a\nb"), cmd=()), {}).argv == ("sh", "-c", "a\nb")


def test_image_defaults_as_configuration() -> None:
    assert image_defaults(image(user="app")) == {
        "environment.FOO": "image",
        "environment.BAR": "a=b",
        "oci.entrypoint": "/entry",
        "oci.cmd": "serve 'all day'",
        "oci.user": "app",
    }


def test_system() -> None:
    made = system({"environment.A": "1", "user.x": "y"})
    assert made.argv == ("/sbin/init",)
    assert made.environment == (("A", "1"),)
    assert dict(made.commands_environment) == {"PATH": DEFAULT_PATH, "LANG": "C.UTF-8", "A": "1"}
    assert (made.user, made.cwd, made.commands_cwd, made.stop_signal) == ("", "/", "", None)
