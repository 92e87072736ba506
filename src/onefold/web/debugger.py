"""The debugger: the calls of a profile source as they come, accepted and rejected."""

from __future__ import annotations

from time import monotonic
from typing import Any

from nicegui import ui
from nicegui.page_arguments import PageArguments

from onefold.errors import InvalidTrigger
from onefold.web import kit, words
from onefold.web.call import Call, Detail, identifiers, title
from onefold.web.kit import column, el, text
from onefold.web.shell import ask, asked, crumbs
from onefold.workspace import Workspace

KEPT = 500
LIVE = 0.5
MANY = 40  # accepted calls that one look adds to the list; of more, some are shown
RATE = 10.0  # seconds that the rate is an average of
COLUMNS = [
    column("time", "Time", mono=True, faint=True, tight=True),
    column("type", "Type", tight=True),
    column("call", "Call", name=True),
    column("ids", "Identifiers", mono=True),
    column("result", "Result", tight=True),
]


async def debugger(args: PageArguments) -> None:
    """The calls of one profile source."""
    wanted = asked(args, "source")

    def read(workspace: Workspace) -> list[tuple[str, str, str]]:
        return [
            (source.slug, source.name, space.slug)
            for space in workspace.configuration().spaces
            for source in space.sources
        ]

    sources = await ask(read)
    if not sources:
        crumbs(("Debugger", "/debugger"))
        with kit.page():
            kit.simple_head("Debugger")
            with (
                el("section", "of-panel"),
                kit.empty(
                    "No profile source yet",
                    "A profile source is an input of a space, with a write key. Its calls are shown here.",
                ),
            ):
                kit.button("Open spaces", href="/spaces")
        return
    slug, name, space = next((one for one in sources if one[0] == wanted), sources[0])
    crumbs(("Debugger", "/debugger"), (name, args.path))
    view = _View(slug, space)
    await view.look()
    view.build(sources)


class _View:
    """What one page of the debugger has seen and shows."""

    def __init__(self, source: str, space: str) -> None:
        self.source, self.space = source, space
        self.calls: list[Call] = []
        self.waiting: list[Call] = []
        self.cursor: Any = None
        self.paused = False
        self.status = ""
        self.fql: Any = None
        self.chosen: str | None = None
        self.count = 0
        self.looks: list[tuple[float, int, float, int]] = []  # when; calls that had come, that fit, that are shown

    async def look(self) -> bool:
        """Read what is new; whether there is anything."""
        after = self.cursor
        new, self.cursor = await ask(lambda workspace: workspace.debug(self.source, after))
        if after is not None:
            new = self._sample(new, self.cursor.calls - after.calls)
        for call in new:
            self.count += 1
            call["at"] = str(self.count)
        self.waiting = [*self.waiting, *new][-KEPT:]
        if not self.paused:
            self.calls, self.waiting = [*self.calls, *self.waiting][-KEPT:], []
        return bool(new)

    def _sample(self, new: list[Call], came: int) -> list[Call]:
        """Of many accepted calls some that fit the filter, evenly; all that were rejected. `came`: accepted in all."""
        accepted = [call for call in new if call["status"] == "accepted"]
        fitting = [call for call in accepted if self._fits(call)]
        shown = fitting[:: -(-len(fitting) // MANY)] if len(accepted) > MANY and fitting else fitting
        now = monotonic()
        fit = len(fitting) * came / len(accepted) if accepted else 0
        self.looks = [*(look for look in self.looks if now - look[0] < RATE), (now, came, fit, len(shown))]
        if len(accepted) <= MANY:
            return new
        kept = {id(call) for call in shown}
        return [call for call in new if call["status"] == "rejected" or id(call) in kept]

    def build(self, sources: list[tuple[str, str, str]]) -> None:
        with el("div", "of-editor"):
            with el("div", "of-head-edge of-stack").style("gap: 12px"):
                with kit.head("Debugger") as (_, _, actions), actions:
                    self.rate = el("span", "of-note", "")
                with kit.row():
                    options = [(one[0], one[1]) for one in sources]
                    kit.Input(
                        self.source,
                        lambda value: ui.navigate.to(f"/debugger?source={value}"),
                        options=options,
                        label="Profile source",
                    ).style("width: 190px")
                    self.pause = kit.button("Pause", self._pause, "", "pause")
                    self.pause.props["data-pause"] = "1"
                    with el("div", "of-search of-grow"):
                        kit.icon("filter")
                        hint = 'Filter, for example event = "Order Completed" or userId = "48213"'
                        self.filter = kit.Input("", self._filter, label="Filter by FQL", hint=hint, mono=True)
                    kit.segments(
                        [("", "All"), ("accepted", "Accepted"), ("rejected", "Rejected")], "", self._choose, "Result"
                    )
                    kit.button("Clear", self._clear, "ghost")
                self.wrong = el("p", "of-wrong", "")
                self.wrong.set_visibility(False)
            with el("div", "of-panes").style("grid-template-columns: minmax(0, 1fr) minmax(0, 420px)"):
                with el("div", "of-pane", tabindex="0"):  # it scrolls, also by keyboard
                    self.table = kit.Table(COLUMNS, [], "Calls", dense="30")
                    self.none = el("div")
                    self.table.on_open(self._open)
                self.detail = el("aside", "of-pane of-pane-side", aria_label="The chosen call")
        self._show()
        self._detail()
        ui.timer(LIVE, self._tick)

    async def _tick(self) -> None:
        if await self.look():
            self._show()
        else:
            self._say()

    def _say(self) -> None:
        """How many calls are shown, and how fast they come."""
        rejected = sum(call["status"] == "rejected" for call in self.calls)
        said = [f"{words.many(len(self.calls), 'call')}, {rejected:,} rejected"]
        came, fit, shown = (sum(look[at] for look in self.looks) for at in (1, 2, 3))
        if came:
            rate = came / max(monotonic() - self.looks[0][0], 1)
            said.append(f"{rate:,.0f} calls/s" if rate >= 1 else "under 1 call/s")
        if shown and fit / shown >= 1.5:
            said.append(f"showing 1 in {fit / shown:,.0f}")
        if self.paused:
            said.append(f"{words.many(len(self.waiting), 'new call')} wait")
        text_ = " · ".join(said)
        if self.rate.text != text_:  # type: ignore[attr-defined]
            self.rate.text = text_  # type: ignore[attr-defined]

    def _show(self) -> None:
        shown = [call for call in reversed(self.calls) if self._wanted(call)]
        self.table.show([self._row(call) for call in shown])
        self._say()
        self.none.clear()
        if not shown:
            with self.none:
                if self.calls:
                    with kit.empty("No call fits the filter", f"{words.many(len(self.calls), 'call')} in all."):
                        pass
                else:
                    with kit.empty(
                        "No calls yet",
                        "Send one with the write key of this source, or sync a mapping; it appears here at once.",
                    ):
                        pass

    def _wanted(self, call: Call) -> bool:
        if self.status not in ("", call["status"]):
            return False
        return self._fits(call)

    def _fits(self, call: Call) -> bool:
        return self.fql is None or bool(isinstance(call["call"], dict) and self.fql.matches(call["call"]))

    def _row(self, call: Call) -> kit.Cell:
        rejected = call["status"] == "rejected"
        return {
            "id": call["at"],
            "go": True,
            "tone": "bad" if rejected else "on" if call["at"] == self.chosen else "",
            "at": rejected and call["at"] == self.chosen,
            "time": words.clock(call["received_at"], fraction=True),
            "type": {"t": call["type"] or "row", "code": True, "tone": "bad" if rejected else ""},
            "call": title(call),
            "ids": identifiers(call),
            "result": {"t": "Rejected", "icon": "rejected", "tone": "bad"}
            if rejected
            else {
                "t": "Filed" if call["type"] in ("track", "page", "screen") else "Updated",
                "icon": "check",
                "tone": "ok",
            },
        }

    def _pause(self) -> None:
        self.paused = not self.paused
        self.pause.clear()
        with self.pause:
            kit.icon("play" if self.paused else "pause")
            text("Go on" if self.paused else "Pause")
        if not self.paused:
            self.calls, self.waiting = [*self.calls, *self.waiting][-KEPT:], []
        self._show()

    def _choose(self, status: str) -> None:
        self.status = status
        self._show()

    def _filter(self, said: str) -> None:
        from onefold import trigger

        try:
            self.fql = trigger.parse(said) if said.strip() else None
            problem = ""
        except InvalidTrigger as error:
            problem = str(error)
        self.filter.wrong(problem)
        self.wrong.text = problem  # type: ignore[attr-defined]
        self.wrong.set_visibility(bool(problem))
        self._show()

    def _clear(self) -> None:
        self.calls, self.waiting, self.chosen = [], [], None
        self._show()
        self._detail()

    def _open(self, at: str) -> None:
        self.chosen = at
        self._show()
        self._detail()

    def _detail(self) -> None:
        chosen = next((one for one in self.calls if one["at"] == self.chosen), None)
        self.detail.clear()
        with self.detail:
            if chosen is None:
                with kit.empty("No call is chosen", "Choose one to see it whole, and which profile it belongs to."):
                    pass
            else:
                Detail(self.source, self.space, chosen, lambda: self._open(""))
