"""Which project an instance is in, told by its name.

Below the API an instance has one name that is unique on the host: in the database, on disk, as cgroup, to liblxc.

    project   instance   name below the API   path in the API
    default   web        web                  /1.0/instances/web
    p1        web        p1_web               /1.0/instances/web?project=p1

Neither an instance nor a project may have an underscore in its name. What clients and containers see is the plain name.
"""

from urllib.parse import parse_qs, quote

from lxdpy.errors import InvalidRequestError

DEFAULT = "default"
"""The project that is always there."""

_SEPARATOR = "_"


def qualify(project: str, name: str) -> str:
    """The name below the API of an instance. Raises InvalidRequestError for a plain name with an underscore."""
    if _SEPARATOR in name:
        raise InvalidRequestError(
            f"Invalid instance name {name!r:.100}: it can only contain letters, digits and hyphens"
        )
    return name if project == DEFAULT else f"{project}{_SEPARATOR}{name}"


def split(name: str) -> tuple[str, str]:
    """The project, and the plain name, of an instance's name below the API."""
    project, separator, plain = name.partition(_SEPARATOR)
    return (project, plain) if separator else (DEFAULT, name)


def plain_name(name: str) -> str:
    """What clients, and the instance itself, call it."""
    return split(name)[1]


def dns_name(name: str) -> str:
    """What an instance is called below its network's domain, as LXD has it: two projects may each have a `web`."""
    project, plain = split(name)
    return plain if project == DEFAULT else f"{plain}.{project}"


def project_of(name: str) -> str:
    """The project that an instance is in."""
    return split(name)[0]


def in_project(path: str, project: str) -> str:
    """An API path of something in `project`."""
    return path if project == DEFAULT else f"{path}?project={quote(project, safe='')}"


def instance_url(name: str, *below: str, prefix: str = "/1.0/instances") -> str:
    """The API path of an instance by its name below the API, or of what is `below` it (`"snapshots", "snap0"`)."""
    project, plain = split(name)
    return in_project("/".join((prefix, plain, *below)), project)


def project_of_url(url: str) -> str:
    """The project in which an API path is."""
    _, _, query = url.partition("?")
    return parse_qs(query).get("project", [DEFAULT])[-1] if query else DEFAULT
