"""Lists of CPUs and NUMA nodes, as the kernel reads and writes them: `0-3,7`."""


def parse(listing: str) -> tuple[int, ...]:
    """The numbers of a list; none of an empty one."""
    found: list[int] = []
    for part in filter(None, listing.strip().split(",")):
        first, _, last = part.partition("-")
        found.extend(range(int(first), int(last or first) + 1))
    return tuple(found)
