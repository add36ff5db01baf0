"""Client of simplestreams image servers, as LXD's: static files that say what there is, and where.

catalogue   what index.json and products mean: pure functions
messages    what the driver and its helper process say to each other
client      the driver; `lxdpy.workers.streams` is the helper, which reads what the server says, megabytes of JSON
"""

from lxdpy.drivers.simplestreams.client import StreamsClient

__all__ = ["StreamsClient"]
