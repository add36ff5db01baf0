"""How uvicorn serves the API."""

import uvicorn
from fastapi import FastAPI

from lxdpy.api.peer import PeerProtocol

PING_INTERVAL_S = 10.0
CONNECTIONS_TIMEOUT_S = 2
"""Event streams and open execs would keep the server from ending: they are cut after this."""


def server_config(app: FastAPI) -> uvicorn.Config:
    """uvicorn's settings for `app`; sockets are given to `Server.serve`."""
    return uvicorn.Config(
        app,
        http=PeerProtocol,
        ws="websockets-sansio",
        # A client that is stopped, or that we wait for because it is slow, answers no ping: that is not its death.
        ws_ping_interval=PING_INTERVAL_S,
        ws_ping_timeout=None,
        # Compressing what stays on this host only costs.
        ws_per_message_deflate=False,
        log_config=None,
        # At INFO, uvicorn logs the secrets in the URLs of websockets.
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=CONNECTIONS_TIMEOUT_S,
    )
