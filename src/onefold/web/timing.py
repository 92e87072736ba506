"""Trigger and schedule of a mapping: which records it sends, and when."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from onefold import schedule, trigger
from onefold.errors import InvalidTrigger
from onefold.segment_profiles import RECORDS_TRIGGER
from onefold.web import edit, kit
from onefold.web.kit import el

TRIGGERS = {
    RECORDS_TRIGGER: "Added or updated",
    'event = "new"': "Added",
    'event = "updated"': "Updated",
    'event = "deleted"': "Deleted",
}


def build(data: edit.Data, others: list[tuple[str, str]] | None, changed: Callable[[str | None], None]) -> None:
    """Fields for trigger and schedule of a mapping, which set them in `data`; `others`: mappings that it may follow.

    `others` is None for a mapping of live calls, which has no schedule. `changed` hears what is wrong with the trigger,
    '' where nothing is, or None where that was not looked at.
    """
    with el("div", "of-set of-narrow"):
        el("h2", "", "Which records")
        now = data.get("trigger") or RECORDS_TRIGGER
        custom = now not in TRIGGERS
        with kit.row():
            options = [*TRIGGERS.items(), ("custom", "Custom")]
            kit.segments(options, "custom" if custom else now, lambda said: choose(said), "Which records")
        fql = kit.field("Trigger, in FQL", now, 'Such as event = "updated" and properties.country = "NO"', mono=True)
        fql.input.on_value_change(lambda event: typed(str(event.value)))

        def choose(said: str) -> None:
            if said != "custom":
                fql.input.value = said
                typed(said)

        def typed(said: str) -> None:
            try:
                trigger.parse(said)
                fql.wrong(None)
                wrong = ""
            except InvalidTrigger as error:
                fql.wrong(str(error))
                wrong = str(error)
            data["trigger"] = said
            changed(wrong)

        if others is not None:
            el("h2", "", "Schedule")
            _schedule(data, others, lambda: changed(None))


def _schedule(data: edit.Data, others: list[tuple[str, str]], changed: Callable[[], None]) -> None:
    now = data.get("schedule") if isinstance(data.get("schedule"), dict) else {}
    assert isinstance(now, dict)
    start = next((key for key in ("every", "at", "cron", "after") if key in now), "manual")
    place = el("div", "of-stack")

    def keep(**values: Any) -> None:
        data["schedule"] = {key: value for key, value in values.items() if value} or None
        changed()

    def show(kind: str) -> None:
        place.clear()
        with place:
            if kind == "every":
                made = kit.field("Every", str(now.get("every", "1h")), "A number and s, m, h or d, such as 15m or 1h.")
                made.input.on_value_change(lambda event: keep(every=event.value))
                keep(every=made.value)
            elif kind == "at":
                times = now.get("at", "09:00")
                times = ", ".join(times) if isinstance(times, list) else times
                clock = kit.field("At", times, "Hours and minutes, several with commas: 09:00, 17:30.")
                days = kit.field("Days", ", ".join(now.get("days", schedule.DAYS)), "mon, tue, wed, thu, fri, sat, sun")
                zone = kit.field("Time zone", now.get("timezone", "UTC"), "Such as Europe/Oslo.")

                def told() -> None:
                    keep(at=_several(clock.value), days=_several(days.value), timezone=zone.value)

                for one in (clock, days, zone):
                    one.input.on_value_change(told)
                told()
            elif kind == "cron":
                made = kit.field(
                    "Cron", now.get("cron", "0 9 * * 1-5"), "Minute, hour, day, month, weekday.", mono=True
                )
                zone = kit.field("Time zone", now.get("timezone", "UTC"), "Such as Europe/Oslo.")
                for one in (made, zone):
                    one.input.on_value_change(lambda: keep(cron=made.value, timezone=zone.value))
                keep(cron=made.value, timezone=zone.value)
            elif kind == "after":
                if not others:
                    kit.note("There is no other mapping to follow.")
                    return
                first = now.get("after", others[0][0])
                made = kit.field("After", first, "Runs whenever that mapping was synced.", options=others)
                made.input.on_value_change(lambda event: keep(after=event.value))
                keep(after=made.value)
            else:
                kit.note("It is synced when somebody presses Sync now, or by the command line or API.")
                if data.get("schedule"):
                    keep()

    options = [
        ("manual", "Manual"),
        ("every", "Every"),
        ("at", "At times"),
        ("cron", "Cron"),
        ("after", "After another"),
    ]
    kit.segments(options, start, show, "Kind of schedule")
    place.move(place.parent_slot.parent if place.parent_slot else None)
    saved = json.loads(json.dumps(data.get("schedule")))
    show(start)
    data["schedule"] = saved


def _several(said: Any) -> list[str]:
    return [one.strip() for one in str(said).split(",") if one.strip()]
