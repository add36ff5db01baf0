"""Trees of files that volumes are, copied and measured by processes of their own."""

from lxdpy.drivers.volumes.host import HostVolumes

__all__ = ["HostVolumes"]
