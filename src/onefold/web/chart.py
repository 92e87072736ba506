"""Charts: ECharts with the tokens of the stylesheet, no title, no legend box, nothing that moves."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from onefold.web.kit import el

Options = dict[str, Any]
# `150 k`, as words.short says it.
_SHORT = (
    "v => v >= 1e6 ? +(v / 1e6).toFixed(1) + ' M' : v >= 1e4 ? +(v / 1e3).toFixed(1) + ' k' : v.toLocaleString('en-US')"
)


def color(token: str) -> str:
    """A token's colour as the browser has it, for an option whose name begins with a colon."""
    return f"getComputedStyle(document.body).getPropertyValue('--{token}').trim()"


def draw(said: str, options: Options) -> ui.echart:
    """A chart, and in words what it shows; its options are added to those that all charts have."""
    with el("div", "of-drawn", role="img", aria_label=said):
        return ui.echart(_all(options), renderer="svg").classes("of-chart")


def show(made: ui.echart, options: Options) -> None:
    """Other data in a chart that is drawn."""
    made.options.clear()
    made.options.update(_all(options))
    made.update()


def _all(options: Options) -> Options:
    plain = {"axisLine": {"show": False}, "axisTick": {"show": False}}
    label = {":color": color("t3"), "fontSize": 11, "fontFamily": "Inter"}
    labels = options["xAxis"].get("axisLabel", {})
    return {
        "animation": False,
        "grid": {"left": 8, "right": 10, "top": 12, "bottom": 4, "containLabel": True},
        "tooltip": {
            "trigger": "axis",
            ":backgroundColor": color("bg"),
            ":borderColor": color("border"),
            "padding": [6, 10],
            "textStyle": {":color": color("t1"), "fontSize": 12, "fontFamily": "Inter"},
        },
        **options,
        "xAxis": {"splitLine": {"show": False}, **plain, **options["xAxis"], "axisLabel": {**label, **labels}},
        "yAxis": {
            "type": "value",
            "splitNumber": 3,
            "minInterval": 1,
            **plain,
            "axisLabel": {**label, ":formatter": _SHORT},
            "splitLine": {"lineStyle": {":color": color("border")}},
        },
    }
