"""The id map of an instance as its configuration tells it, in LXD's words: scripts look there for the host's ids."""

import json

from lxdpy.drivers.base import IdMap


def volatile(id_map: IdMap | None) -> dict[str, str]:
    """What a start notes: the map that the container has. On disk no id is shifted, ever."""
    ranges = []
    if id_map is not None:
        for is_uid in (True, False):
            ranges.append(
                {
                    "Isuid": is_uid,
                    "Isgid": not is_uid,
                    "Hostid": id_map.base,
                    "Nsid": 0,
                    "Maprange": id_map.size,
                }
            )
    text = json.dumps(ranges, separators=(",", ":"))
    return {
        "volatile.idmap.base": "0",
        "volatile.idmap.current": text,
        "volatile.idmap.next": text,
        "volatile.last_state.idmap": "[]",
    }
