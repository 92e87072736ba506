"""What a case found: its figures beside the targets of the product, as a line of the table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles

# Targets are about this many rows; a smaller run shows them, and judges only what does not depend on rows.
FULL = 1_000_000
HEADER = (
    f"{'case':42}{'rows':>11}{'seconds':>9}{'rows/s':>11}{'x floor':>9}{'ms':>8}{'p95 ms':>8}{'MB':>7}  met  target"
)


class Unavailable(Exception):
    """What a case needs is not on this machine; the message says what, in a sentence."""


@dataclass(frozen=True)
class Target:
    """At most `limit` of a field of Measured; at least, if that is `rows_per_s`."""

    text: str
    of: str
    limit: float


@dataclass(frozen=True)
class Measured:
    """One case: rows handled, seconds for all of them, peak resident memory (of a process and its children).

    `times` has the milliseconds of each batch, or read, of a case that is about latency.
    """

    case: str
    rows: int
    seconds: float
    memory_mb: float | None = None
    floor: float | None = None  # the seconds of the floor for the same rows
    targets: Sequence[Target] = ()
    judged: bool = True
    times: Sequence[float] = ()
    stages: Mapping[str, float] = field(default_factory=dict)  # seconds of each, as the run recorded them

    @property
    def rows_per_s(self) -> float | None:
        return self.rows / self.seconds if self.rows else None

    @property
    def ratio(self) -> float | None:
        return self.seconds / self.floor if self.floor else None

    @property
    def median_ms(self) -> float | None:
        return median(self.times) if self.times else None

    @property
    def p95_ms(self) -> float | None:
        return quantiles(self.times, n=20, method="inclusive")[-1] if self.times else None

    @property
    def p99_ms(self) -> float | None:
        return quantiles(self.times, n=100, method="inclusive")[-1] if self.times else None

    @property
    def met(self) -> bool | None:
        """Whether all targets are met; None where there are none, or too few rows to judge by."""
        return all(map(self._meets, self.targets)) if self.targets and self.judged else None

    def _meets(self, target: Target) -> bool:
        found: float = getattr(self, target.of)
        return found >= target.limit if target.of == "rows_per_s" else found <= target.limit

    def line(self) -> str:
        """The line of the table, under HEADER."""
        verdict = {True: "yes", False: "NO", None: ""}[self.met]
        return (
            f"{self.case:42}{_number(self.rows or None):>11}{_number(self.seconds, 2):>9}{_number(self.rows_per_s):>11}"
            f"{_number(self.ratio, 2):>9}{_number(self.median_ms, 2):>8}{_number(self.p95_ms, 2):>8}"
            f"{_number(self.memory_mb):>7}  {verdict:4} {self._target()}"
        ).rstrip()

    def json(self) -> str:
        found: dict[str, object] = {"case": self.case, "rows": self.rows}
        for name in ("seconds", "rows_per_s", "ratio", "memory_mb", "median_ms", "p95_ms", "p99_ms"):
            value: float | None = getattr(self, name)
            if value is not None:
                found[name] = round(value, 3)
        if self.stages:
            found["stages"] = self.stages
        if self.targets:
            found |= {"target": self._target(), "met": self.met}
        return json.dumps(found)

    def _target(self) -> str:
        return ", ".join(target.text for target in self.targets)


@dataclass(frozen=True)
class Skipped:
    """A case that could not be run here, and why."""

    case: str
    why: str

    def line(self) -> str:
        return f"{self.case:42}skipped: {self.why}"

    def json(self) -> str:
        return json.dumps({"case": self.case, "skipped": self.why})


def _number(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
