"""What the server tells of itself: structured logs and metrics. Neither holds personal data, keys or bodies."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any


def configure() -> None:
    """Send all logs of this process to standard error, one JSON object a line."""
    import structlog

    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _failure,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = name != "uvicorn.access"  # its paths hold identifiers
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


def logger() -> Any:
    import structlog

    return structlog.get_logger("onefold")


def _failure(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """An exception as its type and places: its words may hold what a caller sent."""
    given = event.pop("exc_info", None)
    if given is True:
        given = sys.exc_info()
    error = given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        frames = traceback.extract_tb(error.__traceback__)
        event["error"] = type(error).__name__
        event["at"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-8:]]
    return event


class Metrics:
    """The figures of one server, in the form that Prometheus reads."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        self.requests = Counter(
            "onefold_tracking_requests", "Tracking API requests.", ["status"], registry=self.registry
        )
        self.calls = Counter("onefold_tracking_calls", "Calls acknowledged.", ["source"], registry=self.registry)
        self.seconds = Histogram(
            *("onefold_acknowledge_seconds", "From the body of a request to its commit."),
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
            registry=self.registry,
        )
        self.waiting = Gauge("onefold_inbox_bytes", "Bytes that wait to be applied.", registry=self.registry)
        self.resolving = Gauge("onefold_resolver_up", "1 while the resolver runs.", registry=self.registry)

    def text(self) -> bytes:
        from prometheus_client import generate_latest

        return generate_latest(self.registry)
