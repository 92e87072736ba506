"""`onefold serve`: the one command that runs it all on a workspace folder.

This process answers; a child process, the resolver, applies what came in. Both may be killed at any moment.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from types import FrameType
from urllib.parse import urlsplit

import uvicorn

from onefold import api, child, telemetry
from onefold.api import streams
from onefold.errors import OnefoldError
from onefold.scheduler import AT_ONCE, Scheduler
from onefold.upkeep import Upkeep
from onefold.workspace import Workspace

PATIENCE = 10  # seconds that requests under way are given to end
AGAIN = 1.0  # seconds before a resolver that died is started again


class Resolving:
    """The resolver, in a process of its own; started again should it die."""

    def __init__(self, folder: str) -> None:
        self._words = [sys.executable, "-m", "onefold.resolver", folder]
        self._ended = Event()
        self._process = self._start()
        self._thread = Thread(target=self._watch, name="resolver", daemon=True)
        self._thread.start()

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(self._words, stdin=subprocess.PIPE)  # noqa: S603 - this same program
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)
        child.stand_behind(process.pid, child.RESOLVER)
        return process

    def _watch(self) -> None:
        while True:
            status = self._process.wait()
            if self._ended.wait(AGAIN):
                return
            telemetry.logger().error("resolver_died", status=status)
            self._process = self._start()

    def up(self) -> bool:
        return self._process.poll() is None

    def wake(self) -> None:
        """Say that there are calls in the inbox."""
        assert self._process.stdin is not None
        with suppress(OSError):  # it has died, or was woken so often that the pipe is full
            os.write(self._process.stdin.fileno(), b".")

    def close(self) -> None:
        """Let it finish what it is at; what waits stays in the inbox."""
        self._ended.set()
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._thread.join()


class _Server(uvicorn.Server):
    """Tells streams that never end by themselves to end, so that nobody waits for them."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        streams.ended.set()
        super().handle_exit(sig, frame)


def bind(host: str, port: int, *, login: bool) -> socket.socket:
    """A listening socket; `login`: whether there is a user, who has to log in. Raises OnefoldError, in words."""
    if not login and not _loopback(host):
        raise OnefoldError(
            f"serving at {host} would let anybody who can reach it become the first user; make one here first:"
            " onefold user create NAME --role admin",
            code="login_needed",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            sentence = f"port {port} is taken by another program; stop it, or choose another: onefold serve --port"
            raise OnefoldError(f"{sentence} {port + 1}", code="port_taken") from None
        why = (error.strerror or str(error)).lower()
        raise OnefoldError(f"cannot listen at {host} port {port}: {why}", code="cannot_listen") from None


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _names(host: str, url: str) -> frozenset[str]:
    """The names by which the server may be asked. Raises OnefoldError."""
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise OnefoldError(
            f"--url takes an address such as https://onefold.example.com, not {url!r}", code="invalid_url"
        )
    return frozenset({*api.HERE, host.lower(), *([parts.hostname] if parts.hostname else [])})


def serve(
    workspace: Workspace,
    host: str,
    port: int,
    said: Callable[[str, str | None], None],
    url: str = "",
    syncs: int | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM. Raises OnefoldError.

    `url` is the address by which people reach it, where that is another one: behind a proxy, or by a name. `said` is
    told the address, and the one-time link by which the first user is made while there is none. `syncs`: how many
    scheduled ones may run at once.
    """
    workspace.begin()
    workspace.applied  # noqa: B018 - it says what is missing
    setup = workspace.sessions.offer()
    listening = bind(host, port, login=setup is None)
    telemetry.configure()
    resolving = Resolving(str(workspace.folder))
    upkeep = Upkeep(workspace)
    scheduler = Scheduler(workspace, syncs or AT_ONCE).begin()
    log = telemetry.logger()
    try:
        hosts = _names(host, url)
        from onefold.web import Web

        app = Web(workspace, hosts)
        made = api.app(workspace, woken=resolving.wake, resolving=resolving.up, hosts=hosts, web=app)
        options = uvicorn.Config(
            made, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=PATIENCE
        )
        shown = f"[{host}]" if ":" in host else host
        address = url.rstrip("/") or f"http://{shown}:{listening.getsockname()[1]}"
        log.info("serving", address=address)
        server = _Server(options)
        streams.ended.clear()
        with suppress(KeyboardInterrupt):  # uvicorn raises again what ended it
            _run(server, listening, lambda: said(address, setup and f"{address}/setup?token={setup}"))
    finally:
        scheduler.close()
        child.stop(PATIENCE)
        upkeep.close()
        resolving.close()
        listening.close()
        log.info("stopped")


def _run(server: _Server, listening: socket.socket, begun: Callable[[], None]) -> None:
    """Run the server; a signal also ends one that is still starting, and is not sent to us once more."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in kept:
        signal.signal(number, lambda *_: setattr(server, "should_exit", True))
    try:
        begun()
        server.run(sockets=[listening])
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
