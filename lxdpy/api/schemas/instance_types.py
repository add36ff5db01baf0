"""Instance types by which clients say how large an instance shall be (`lxc launch IMAGE -t c2-m4`)."""

import math
import re

from lxdpy.errors import InvalidRequestError

_FORM = re.compile(r"(?:c(?P<cpus>\d{1,6}(?:\.\d{1,6})?))?-?(?:m(?P<memory>\d{1,6}(?:\.\d{1,6})?))?", re.ASCII)


def limits(name: str) -> dict[str, str]:
    """The configuration that type `name` stands for: `cCPUS`, `mGB` or `cCPUS-mGB`.

    Names of clouds' machines (`t2.micro`) would need the list that LXD downloads. Raises InvalidRequestError.
    """
    found = _FORM.fullmatch(name)
    cpus, memory = (float(found[part] or 0) for part in ("cpus", "memory")) if found else (0.0, 0.0)
    config: dict[str, str] = {}
    if cpus:
        cores = math.ceil(cpus)
        config["limits.cpu"] = str(cores)
        if (share := int(cpus / cores * 100)) < 100:
            config["limits.cpu.allowance"] = f"{share}%"
    if memory:
        config["limits.memory"] = f"{int(memory * 1024)}MB"
    if not config or name.endswith("-") or name.startswith("-"):
        raise InvalidRequestError(f'Unknown instance type "{name}": expected cCPUS, mGB or cCPUS-mGB, such as "c2-m4"')
    return config
