"""A proxy that fails on purpose, in front of a real server: slow, refusing, cutting connections."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from time import sleep
from typing import Any

import httpx2


@dataclass
class Fault:
    """What happens to a request: it is answered with `status`, or `cut`; `arrives` says whether it was passed on."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    seconds: float = 0.0
    arrives: bool = False


class Proxy:
    """Passes requests on to `target`, except as `fault` says of the n-th one (from 1) and its calls."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.fault: Callable[[int, list[dict[str, Any]]], Fault | None] = lambda *_: None
        self.batches: list[list[dict[str, Any]]] = []  # what came, in order
        self.sizes: list[int] = []  # bytes of each, inflated
        self.taken: list[list[dict[str, Any]]] = []  # what was passed on
        self.lock = Lock()
        self.url = ""

    @property
    def calls(self) -> list[dict[str, Any]]:
        return [call for batch in self.batches for call in batch]

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["content-length"]))
        text = gzip.decompress(body)
        calls = json.loads(text)["batch"]
        with self.lock:
            self.batches.append(calls)
            self.sizes.append(len(text))
            fault = self.fault(len(self.batches), calls)
            if fault is None or fault.arrives:
                self.taken.append(calls)
        status, said = 0, b"{}"
        if fault is None or fault.arrives:
            headers = {name: handler.headers[name] for name in ("authorization", "content-encoding", "content-type")}
            answer = httpx2.post(f"{self.target}{handler.path}", content=body, headers=headers)
            status, said = answer.status_code, answer.content
        if fault is not None:
            sleep(fault.seconds)
            if fault.cut:
                handler.close_connection = True
                handler.connection.close()
                return
            status = fault.status or status
        handler.send_response(status)
        for name, value in (fault.headers if fault else {}).items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(said)))
        handler.end_headers()
        handler.wfile.write(said)


@contextmanager
def faulty(target: str) -> Iterator[Proxy]:
    proxy = Proxy(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            # A client that has gone meanwhile is what some tests are about.
            try:
                proxy.handle(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        proxy.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
