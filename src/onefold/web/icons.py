"""Icons: Lucide's, by our own words; as a path string for Quasar, and as a mask for the stylesheet."""

from __future__ import annotations

from functools import cache
from urllib.parse import quote
from xml.etree import ElementTree

STROKE = 1.75
_PLAIN = "/:=' "  # characters that need no escape in a data URL
# Our word -> Lucide's.
ICONS = {
    "account": "building",
    "arrow": "arrow-right",
    "back": "chevron-left",
    "bell": "bell",
    "braces": "braces",
    "check": "check",
    "chevrons": "chevrons-up-down",
    "clock": "clock",
    "close": "x",
    "copy": "copy",
    "database": "database",
    "debugger": "radio",
    "destination": "send",
    "down": "chevron-down",
    "download": "download",
    "failed": "circle-x",
    "filter": "funnel",
    "format": "text-align-start",
    "forward": "chevron-right",
    "help": "circle-question-mark",
    "home": "house",
    "key": "key-round",
    "lost": "unplug",
    "mail": "mail",
    "menu": "ellipsis",
    "merge": "git-merge",
    "message": "message-square",
    "model": "table-2",
    "moon": "moon",
    "never": "circle-dashed",
    "number": "hash",
    "partly": "triangle-alert",
    "pause": "pause",
    "phone": "smartphone",
    "play": "play",
    "plus": "plus",
    "profiles": "users",
    "push": "tablet-smartphone",
    "rejected": "circle-x",
    "resend": "rotate-ccw",
    "rules": "fingerprint-pattern",
    "run": "activity",
    "search": "search",
    "settings": "settings",
    "space": "waypoints",
    "stop": "square",
    "succeeded": "circle-check",
    "sun": "sun",
    "sync": "refresh-cw",
    "test": "flask-conical",
    "text": "type",
    "toggle": "toggle-left",
    "trash": "trash",
    "usage": "chart-column",
    "user": "user",
    "user-edit": "user-pen",
    "user-plus": "user-plus",
    "whatsapp": "message-circle",
}


def path(name: str) -> str:
    """The icon as Quasar takes it wherever it takes a name."""
    style = f"fill:none;stroke:currentColor;stroke-width:{STROKE};stroke-linecap:round;stroke-linejoin:round"
    return "&&".join(f"{line}@@{style}" for line in _lines(name)) + "|0 0 24 24"


def mask(name: str, color: str = "#000") -> str:
    """The icon as the value of a CSS mask, or with a colour as a background."""
    lines = "".join(f"<path d='{line}'/>" for line in _lines(name))
    drawn = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='{color}'"
        f" stroke-width='{STROKE}' stroke-linecap='round' stroke-linejoin='round'>{lines}</svg>"
    )
    return f'url("data:image/svg+xml,{quote(drawn, safe=_PLAIN)}")'


@cache
def _lines(name: str) -> tuple[str, ...]:
    """The shapes of an icon, each as the `d` of a path."""
    from lucide.core import lucide_icon

    drawn = ElementTree.fromstring(lucide_icon(ICONS[name]))  # noqa: S314 - a file of a package
    return tuple(_line(shape.tag.rpartition("}")[2], shape.attrib) for shape in drawn)


def _line(tag: str, at: dict[str, str]) -> str:
    number = {key: float(value) for key, value in at.items() if key not in ("d", "points", "fill")}
    if tag == "path":
        return at["d"]
    if tag == "line":
        return f"M{at['x1']} {at['y1']}L{at['x2']} {at['y2']}"
    if tag in ("polyline", "polygon"):
        return f"M{at['points']}{'Z' if tag == 'polygon' else ''}"
    if tag in ("circle", "ellipse"):
        rx, ry = number.get("r", number.get("rx", 0)), number.get("r", number.get("ry", 0))
        x, y = number["cx"] - rx, number["cy"]
        return f"M{x:g} {y:g}a{rx:g} {ry:g} 0 1 0 {2 * rx:g} 0a{rx:g} {ry:g} 0 1 0 {-2 * rx:g} 0"
    assert tag == "rect", tag
    x, y, width, height = number.get("x", 0), number.get("y", 0), number["width"], number["height"]
    r = number.get("rx", number.get("ry", 0))
    return (
        f"M{x + r:g} {y:g}h{width - 2 * r:g}a{r:g} {r:g} 0 0 1 {r:g} {r:g}v{height - 2 * r:g}"
        f"a{r:g} {r:g} 0 0 1 {-r:g} {r:g}h{2 * r - width:g}a{r:g} {r:g} 0 0 1 {-r:g} {-r:g}v{2 * r - height:g}"
        f"a{r:g} {r:g} 0 0 1 {r:g} {-r:g}z"
    )
