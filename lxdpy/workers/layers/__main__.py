"""The layer worker: a fork server, one child per layer. Started by drivers.store."""

from lxdpy.workers import zygote
from lxdpy.workers.layers.jobs import run

IDLE_TIMEOUT_S = 15.0
"""What it has loaded is memory that a daemon between two pulls has no use for."""

if __name__ == "__main__":
    zygote.serve(zygote.inherited_socket(), run, idle_timeout_s=IDLE_TIMEOUT_S)
