"""The template worker: a fork server, one child per start of an instance that has templates. Started by
drivers.templates."""

from lxdpy.workers import zygote
from lxdpy.workers.templates.jobs import run
from lxdpy.workers.templates.render import load_all

IDLE_TIMEOUT_S = 15.0

if __name__ == "__main__":
    load_all()
    zygote.serve(zygote.inherited_socket(), run, idle_timeout_s=IDLE_TIMEOUT_S)
