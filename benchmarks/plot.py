"""The plot of a bench: bars with their targets, as an SVG that is the same for the same figures.

Every colour is of middle lightness, so that it can be read on white and on black.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.measured import Measured, Target

WIDTH, LABEL, VALUE = 840, 285, 170  # the whole; what is left of the bars, and right of them
ROW, HEAD, GAP, FOOT = 24, 34, 22, 30
TEXT, BAR, OTHER, TARGET = "#7a7a7a", "#3d83c4", "#9a9a9a", "#d9702c"


@dataclass(frozen=True)
class Bar:
    label: str
    length: float  # in the unit of its panel
    value: str
    target: float | None = None
    ours: bool = True


def svg(found: Sequence[Measured], rows: int) -> str:
    """The plot of the cases of a bench of so many rows; those that were skipped are left out."""
    panels = [(title, bars) for title, bars in _panels(found, rows) if bars]
    height = sum(HEAD + ROW * len(bars) + GAP for _, bars in panels) + FOOT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        f' font-family="system-ui, sans-serif" font-size="13" fill="{TEXT}" role="img">',
        f"<title>Onefold: {rows:,} rows</title>",
    ]
    top = 0
    for title, bars in panels:
        lines += _drawn(title, bars, top)
        top += HEAD + ROW * len(bars) + GAP
    lines += [
        _mark(LABEL, top),
        f'<text x="{LABEL + 9}" y="{top + 13}">target</text>',
        f'<rect x="{LABEL + 70}" y="{top + 3}" width="12" height="12" rx="2" fill="{BAR}"/>',
        f'<text x="{LABEL + 88}" y="{top + 13}">Onefold</text>',
        f'<rect x="{LABEL + 156}" y="{top + 3}" width="12" height="12" rx="2" fill="{OTHER}"/>',
        f'<text x="{LABEL + 174}" y="{top + 13}">for comparison</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _panels(found: Sequence[Measured], rows: int) -> Iterator[tuple[str, list[Bar]]]:
    floors = [one for one in found if one.rows == rows and one.floor]
    yield f"Seconds for {rows:,} rows, from the start of a process to its end", [_seconds(one) for one in floors]
    rates = [one for one in found if ("first sync" in one.case and one.rows == rows) or "peer" in one.case]
    yield "Rows a second", [_rate(one, one.case) for one in rates]
    yield (
        "Milliseconds: median (p95); bars as shares of the target",
        [_latency(one, target) for one in found for target in one.targets if target.of.endswith("_ms")],
    )
    busy = [one for one in found if one.times and any(target.of == "rows_per_s" for target in one.targets)]
    yield (
        "Calls and requests a second, on the same processors as those who send them",
        [_rate(one, one.case) for one in busy],
    )
    grown = [one for one in found if one.case == "first sync"]
    if len(grown) > 1:
        yield "Rows a second of a first sync, by rows", [_rate(one, f"{one.rows:,}") for one in grown]
    shapes = [one for one in found if one.case.startswith(("all calls", "a chain"))]
    yield "Rows a second of awkward shapes", [_rate(one, f"{one.case}: {one.rows:,}") for one in shapes]


def _seconds(one: Measured) -> Bar:
    limits = [target.limit for target in one.targets if target.of == "seconds" and one.judged]
    value = f"{one.seconds:.2f} s"
    if one.seconds != one.floor:
        value += f" ({one.ratio:.2f} x floor)"
    return Bar(one.case, one.seconds, value, min(limits, default=None), ours="floor" not in one.case)


def _rate(one: Measured, label: str) -> Bar:
    rate = one.rows_per_s or 0
    targets = one.targets if one.judged else ()
    limits = [target.limit for target in targets if target.of == "rows_per_s"]
    # One in seconds is one in rows a second too.
    limits += [one.rows / target.limit for target in targets if target.of == "seconds"]
    return Bar(label, rate, f"{rate:,.0f}", max(limits, default=None), ours="peer" not in one.case)


def _latency(one: Measured, target: Target) -> Bar:
    judged: float = getattr(one, target.of)
    value = f"{one.median_ms:.2f} ms ({one.p95_ms:.2f})"
    return Bar(one.case, judged / target.limit, value, 1.0 if one.judged else None)


def _drawn(title: str, bars: Sequence[Bar], top: int) -> Iterator[str]:
    room = WIDTH - LABEL - VALUE
    most = max(max(bar.length, bar.target or 0) for bar in bars) or 1
    yield f'<text x="0" y="{top + 18}" font-weight="600">{escape(title)}</text>'
    for number, bar in enumerate(bars):
        y = top + HEAD + ROW * number
        width = room * bar.length / most
        yield f'<text x="{LABEL - 10}" y="{y + 13}" text-anchor="end">{escape(bar.label)}</text>'
        fill = BAR if bar.ours else OTHER
        yield f'<rect x="{LABEL}" y="{y + 2}" width="{max(width, 1):.1f}" height="14" rx="2" fill="{fill}"/>'
        if bar.target is not None:
            yield _mark(LABEL + room * bar.target / most, y)
        yield f'<text x="{LABEL + room + 14}" y="{y + 13}">{escape(bar.value)}</text>'


def _mark(x: float, y: float) -> str:
    return f'<rect x="{x - 1.5:.1f}" y="{y - 1}" width="3" height="20" rx="1.5" fill="{TARGET}"/>'
