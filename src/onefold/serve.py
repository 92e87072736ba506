"""The server: one process on a workspace folder, beside which the command line goes on working."""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import ip_address

from onefold.errors import OnefoldError
from onefold.workspace import Workspace

# Seconds that requests under way are given when the server is told to stop.
PATIENCE = 10


class CannotServe(OnefoldError):
    """The address cannot be used."""

    code = "cannot_serve"


def serve(workspace: Workspace, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Answer until a signal says stop; `ready` is told the url. Port 0 is any free one. Raises OnefoldError."""
    import uvicorn

    from onefold import api

    bound = _bound(host, port)
    with bound:
        application = api.app(workspace)
        # Its access log would hold e-mail addresses: paths name identifiers.
        config = uvicorn.Config(
            application, access_log=False, log_level="warning", server_header=False, timeout_graceful_shutdown=PATIENCE
        )
        name = f"[{host}]" if ":" in host else host
        ready(f"http://{name}:{bound.getsockname()[1]}")
        uvicorn.Server(config).run(sockets=[bound])


def _bound(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises CannotServe."""
    if host != "localhost" and not _is_loopback(host):
        raise CannotServe(
            f"{host} is not an address of this machine alone, and there is no login yet that would guard it; serve on"
            " 127.0.0.1, and put a proxy in front that asks who comes"
        )
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen()
    except OSError as error:
        raise CannotServe(f"{host}:{port} cannot be used: {error.strerror}; choose another with --port") from error
    return bound


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
