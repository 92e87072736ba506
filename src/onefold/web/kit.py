"""The parts that every screen is made of. Text from data goes in as text, never as HTML."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from inspect import iscoroutine
from typing import Any

from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement
from nicegui.elements.mixins.value_element import ValueElement
from nicegui.events import GenericEventArguments

from onefold.errors import OnefoldError
from onefold.web import words

Act = Callable[[], Any]
Cell = dict[str, Any]


def el(tag: str, cls: str = "", text: str | None = None, **props: Any) -> Element:
    """An element of HTML, with classes, text and attributes (`aria_label` is aria-label)."""
    made = Element(tag) if text is None else TextElement(tag=tag, text=text)
    if cls:
        made.classes(cls)
    for name, value in props.items():
        if value is not None:
            made.props[name.rstrip("_").replace("_", "-")] = value
    return made


def icon(name: str, cls: str = "") -> Element:
    return el("i", f"of-i of-i-{name} {cls}".strip(), aria_hidden="true")


def text(said: str, cls: str = "") -> Element:
    return el("span", cls, said)


def note(said: str) -> Element:
    return el("p", "of-note", said)


def mono(said: str, cls: str = "") -> Element:
    return el("span", f"of-mono {cls}".strip(), said)


def code(said: str, cls: str = "") -> Element:
    return el("code", f"of-code {cls}".strip(), said, title=said if len(said) > 24 else None)


def link(said: str, href: str, cls: str = "") -> Element:
    return el("a", cls, said, href=href)


def links(found: Sequence[tuple[str, str]]) -> None:
    """Links in a sentence, with commas: (word, address)."""
    for at, (said, href) in enumerate(found):
        with el("span"):
            link(said, href)
            text("," if at < len(found) - 1 else "")


def row(cls: str = "") -> Element:
    return el("div", f"of-row {cls}".strip())


def sr(said: str) -> Element:
    """Said to screen readers only."""
    return el("span", "of-sr", said)


# --- buttons ------------------------------------------------------------------------------------------


def button(
    said: str,
    act: Act | None = None,
    kind: str = "",
    icon_: str = "",
    *,
    small: bool = False,
    href: str | None = None,
    off: bool = False,
    label: str | None = None,
) -> Element:
    """A button, or with `href` a link that looks like one. `kind`: primary, ghost, danger, destroy, or none."""
    cls = f"of-btn{' of-btn-' + kind if kind else ''}{' of-btn-small' if small else ''}"
    made = el("a" if href else "button", cls if said else f"{cls} of-btn-icon", href=href, aria_label=label)
    if not href:
        # What closes gives the focus back to what has a tabindex: else to the pane around a button.
        made.props.update({"type": "button", "tabindex": "0"})
    if off:
        made.props["disabled"] = True
    with made:
        if icon_:
            icon(icon_, "of-i-14" if small else "")
        if said:
            text(said)
    if act is not None:
        on(made, "click", act)
    return made


def on(made: Element, event: str, act: Callable[..., Any], *, args: bool = False) -> None:
    """Call `act` upon an event, with its arguments if wanted; what it refuses is said in a toast."""

    async def called(event_: GenericEventArguments) -> None:
        made.props["aria-busy"] = "true"
        try:
            found = act(event_.args) if args else act()
            if iscoroutine(found):
                await found
        except OnefoldError as error:
            if not made.is_deleted:
                with made:
                    toast(sentence(str(error)), "failed")
        finally:
            if not made.is_deleted:
                made.props.pop("aria-busy", None)
                made.update()

    made.on(event, called, None if args else [])


def press(said: str, act: Act, label: str | None = None) -> Element:
    """A button within a sentence, that looks like a link."""
    made = el("button", "of-link", said, type="button", tabindex="0", aria_label=label)
    on(made, "click", act)
    return made


@contextmanager
def menu(said: str = "", icon_: str = "menu", label: str | None = None, kind: str = "") -> Iterator[Element]:
    """A button that opens a menu; `menu_item`s stand within."""
    made = button(said, None, kind, icon_, label=label)
    made.props["aria-haspopup"] = "menu"
    with made:
        if said:
            icon("down")
        with ui.menu().props('anchor="bottom right" self="top right" auto-close'), el("div", role="menu") as items:
            yield items


def menu_item(said: str, act: Act, icon_: str = "", *, bad: bool = False) -> Element:
    made = el("button", f"of-menu-item{' of-tone-bad' if bad else ''}", type="button", role="menuitem")
    with made:
        if icon_:
            icon(icon_, "of-i-14")
        text(said)
    on(made, "click", act)
    return made


def copy(said: str, value: str, cls: str = "of-code") -> Element:
    """A chip that copies a value when pressed."""
    return el("button", cls, said, type="button", title=f"Copy {value}", aria_label=f"Copy {value}", data_copy=value)


# --- fields -------------------------------------------------------------------------------------------


class Input(ValueElement[Any], component="parts/input.js"):
    """A plain input; with `options` a select of (value, label), with `lines` a textarea."""

    VALUE_PROP = "value"
    LOOPBACK = None

    def __init__(
        self,
        value: Any = "",
        act: Callable[[Any], Any] | None = None,
        *,
        options: Sequence[tuple[str, str]] | None = None,
        lines: int | None = None,
        type_: str = "text",
        label: str | None = None,
        hint: str | None = None,
        mono: bool = False,
        off: bool = False,
        pause: int = 250,
    ) -> None:
        super().__init__(value=value)
        if options is not None:
            self.props["options"] = [list(option) for option in options]
        self.props["lines"] = lines
        self.props["type_"] = type_
        self.props["pause"] = pause
        for name, given in (("aria-label", label), ("placeholder", hint), ("disabled", off or None)):
            if given is not None:
                self.props[name] = given
        if mono:
            self.classes("of-mono")
        if act is not None:
            self.on_value_change(lambda event: act(event.value))

    def wrong(self, sentence: str | None) -> None:
        """Mark as wrong, or as right again."""
        if sentence:
            self.props["aria-invalid"] = "true"
        else:
            self.props.pop("aria-invalid", None)
        self.update()


class Field:
    """A labelled control with its hint and, below it, what is wrong with it."""

    def __init__(self, label: str, made: Callable[[], Input], hint: str = "", *, must: bool = False) -> None:
        with el("div", "of-field"):
            self._label = el("label", "of-must" if must else "", label)
            self.input = made()
            self._label.props["for"] = self.input.html_id
            if hint:
                el("p", "of-note", hint)
            self._wrong = el("p", "of-wrong", "", role="alert")
        self._wrong.set_visibility(False)

    @property
    def value(self) -> Any:
        return self.input.value

    def wrong(self, sentence: str | None) -> None:
        assert isinstance(self._wrong, TextElement)
        self.input.wrong(sentence)
        self._wrong.text = sentence or ""
        self._wrong.set_visibility(bool(sentence))


def field(label: str, value: Any = "", hint: str = "", *, must: bool = False, **options: Any) -> Field:
    return Field(label, lambda: Input(value, **options), hint, must=must)


def search(label: str, value: str, act: Callable[[Any], Any], width: str = "240px") -> Input:
    with el("div", "of-search").style(f"width: {width}"):
        icon("search")
        return Input(value, act, label=label, hint=label)


class Switch(Element):
    def __init__(self, value: bool, act: Callable[[bool], Any], label: str, *, off: bool = False) -> None:
        super().__init__("button")
        self.classes("of-switch")
        self.value = value
        self.props.update({"type": "button", "role": "switch", "aria-label": label, "aria-checked": _flag(value)})
        if off:
            self.props["disabled"] = True
        on(self, "click", lambda: self._turn(act))

    async def _turn(self, act: Callable[[bool], Any]) -> None:
        wanted = not self.value
        self.set(value=wanted)
        try:
            found = act(wanted)
            if iscoroutine(found):
                await found
        except OnefoldError:
            self.set(value=not wanted)
            raise

    def set(self, *, value: bool) -> None:
        self.value = value
        self.props["aria-checked"] = _flag(value)
        self.update()


def checkbox(said: str, value: bool, act: Callable[[bool], Any]) -> Element:
    with el("label", "of-check") as made:
        box = el("input", "of-box", type="checkbox", checked=value or None)
        box.on("change", lambda event: act(bool(event.args)), js_handler="(e) => emit(e.target.checked)")
        text(said)
    return made


def segments(options: Sequence[tuple[str, str]], now: str, act: Callable[[str], Any], label: str) -> Element:
    """A choice of few, next to each other: (value, word)."""
    with el("div", "of-seg", role="radiogroup", aria_label=label) as made:
        buttons: dict[str, Element] = {}

        async def choose(value: str) -> None:
            for key, one in buttons.items():
                one.props["aria-checked"] = _flag(key == value)
                one.update()
            found = act(value)
            if iscoroutine(found):
                await found

        for value, word in options:
            buttons[value] = el("button", "", word, type="button", role="radio", aria_checked=_flag(value == now))
            on(buttons[value], "click", lambda value=value: choose(value))
    return made


def segment_links(options: Sequence[tuple[str, str]], now: str, label: str) -> None:
    """As `segments`, each with an address of its own: (address, word)."""
    with el("nav", "of-seg", aria_label=label):
        for href, word in options:
            el("a", "", word, href=href, aria_current="true" if href == now else None)


def _flag(value: bool) -> str:
    return "true" if value else "false"


# --- structure ----------------------------------------------------------------------------------------


@contextmanager
def page() -> Iterator[Element]:
    with el("div", "of-page") as made:
        yield made


@contextmanager
def head(title: str, *, edge: bool = False, mono: bool = False) -> Iterator[tuple[Element, Element, Element]]:
    """The head of a page; gives the places for what stands beside the name, the facts, and the actions."""
    with el("div", "of-head of-head-edge" if edge else "of-head"):
        with el("div", "of-head-text"):
            with el("h1") as name:
                el("span", "of-name of-mono" if mono else "of-name", title)
            facts = el("div", "of-facts")
        actions = el("div", "of-actions")
    yield name, facts, actions


def simple_head(title: str, facts: str = "") -> Element:
    """A head with a line of facts; gives the place for the actions."""
    with head(title) as (_, line, actions):
        if facts:
            with line:
                text(facts)
    return actions


@contextmanager
def panel(title: str, beside: str = "", *, level: str = "h2", plain: bool = False) -> Iterator[tuple[Element, Element]]:
    """A panel with a head; gives the place at the right of the head, and the body."""
    with el("section", "of-panel of-panel-plain" if plain else "of-panel"):
        with el("header"):
            el(level, "of-h2", title)
            if beside:
                text(beside, "of-note")
            el("div", "of-grow")
            right = row()
        body = el("div")
    with body:
        yield right, body


def tabs(options: Sequence[tuple[str, str, int | None]], now: str) -> None:
    """Tabs, each with an address: (address, word, count)."""
    with el("nav", "of-tabs", aria_label="Parts"):
        for href, word, count in options:
            with el("a", "", href=href, aria_current="page" if href == now else None):
                text(word)
                if count is not None:
                    el("small", "", words.number(count))


def figure(label: str, value: str, below: str = "", *, tone: str = "", unit: str = "", small: bool = False) -> Element:
    """One figure of a strip."""
    with el("div") as made:
        el("div", "of-label", label)
        with el("div", f"of-fig{' of-fig-small' if small else ''}{' of-tone-' + tone if tone else ''}"):
            text(value)
            if unit:
                el("small", "", f" {unit}")
        if below:
            el("div", "of-note of-cut", below, title=below)
    return made


def strip() -> Element:
    return el("div", "of-strip")


def meter(part: float, whole: float, label: str, tone: str = "") -> None:
    share = min(100.0, 100 * part / whole) if whole else 0.0
    with el(
        "div",
        f"of-meter{' of-meter-' + tone if tone else ''}",
        role="progressbar",
        aria_label=label,
        aria_valuemin="0",
        aria_valuemax="100",
        aria_valuenow=f"{share:.0f}",
    ):
        el("div").style(f"width: {share:.1f}%")


def pill(said: str, tone: str = "", icon_: str = "", *, dot: bool = False) -> Element:
    with el("span", f"of-pill{' of-pill-' + tone if tone else ''}") as made:
        if dot:
            el("i", f"of-dot of-dot-{tone}", aria_hidden="true").style("margin: 0")
        if icon_:
            icon(icon_, "of-i-14")
        text(said)
    return made


def state(status: str) -> Cell:
    """The cell of a run's status."""
    word, icon_, tone = words.STATES.get(status, (status, "never", "off"))
    return {"t": word, "icon": icon_, "tone": tone, "spin": status == "running"}


def state_pill(status: str) -> Element:
    word, icon_, tone = words.STATES.get(status, (status, "never", "off"))
    with el("span", f"of-pill of-pill-{tone}") as made:
        if status == "running":
            el("i", "of-spin", aria_hidden="true")
        elif icon_:
            icon(icon_, "of-i-14")
        text(word)
    return made


class Table(Element, component="parts/table.js"):
    """A table of data. A column: {key, label, num, mono, raw, name, faint, tight, width}; cells as in table.js."""

    def __init__(
        self,
        columns: list[Cell],
        rows: list[Cell],
        caption: str,
        *,
        dense: str = "",
        selectable: bool = False,
        fixed: bool = False,
    ) -> None:
        super().__init__()
        self.selected: list[str] = []
        self.props.update(
            {
                "columns": columns,
                "rows": rows,
                "caption": caption,
                "dense": dense,
                "selectable": selectable,
                "fixed": fixed,
                "selected": [],
            }
        )

    def show(self, rows: list[Cell]) -> None:
        """Other rows; nothing is sent when they are the same."""
        if rows != self.props["rows"]:
            self.props["rows"] = rows
            self.update()

    def select(self, keys: list[str]) -> None:
        """Select these rows and no others."""
        self.selected = keys
        self.props["selected"] = keys
        self.update()

    def on_select(self, act: Callable[[list[str]], Any]) -> None:
        def chosen(keys: Any) -> Any:
            self.selected = list(keys)
            self.props["selected"] = self.selected
            return act(self.selected)

        on(self, "select", chosen, args=True)

    def on_toggle(self, act: Callable[[str, bool], Awaitable[Any]]) -> None:
        on(self, "toggle", lambda args: act(args["id"], args["on"]), args=True)

    def on_act(self, act: Callable[[str, str], Any]) -> None:
        on(self, "act", lambda args: act(args["id"], args["act"]), args=True)

    def on_open(self, act: Callable[[str], Any]) -> None:
        on(self, "open", lambda args: act(args["id"]), args=True)


def column(key: str, label: str, **options: Any) -> Cell:
    return {"key": key, "label": label, **options}


# --- what there is to say -----------------------------------------------------------------------------


@contextmanager
def empty(title: str, said: str) -> Iterator[Element]:
    """What belongs here, in a sentence; the next action stands within."""
    with el("div", "of-empty"):
        el("h3", "of-h2", title)
        el("p", "", said)
        with row() as actions:
            yield actions


def alert(title: str, said: str = "", original: str = "", tone: str = "bad") -> Element:
    icons = {"bad": "failed", "warn": "partly", "ok": "succeeded", "run": "run"}
    with el("div", f"of-alert of-alert-{tone}", role="alert" if tone == "bad" else "status") as made:
        icon(icons[tone])
        with el("div"):
            el("strong", "", title)
            if said:
                el("p", "", said)
            if original:
                el("code", "", original)
    return made


def failure(error: OnefoldError, again: Act | None = None) -> None:
    """A screen's part that cannot be shown, and why."""
    with el("div", "of-panel-body"):
        alert(sentence(str(error)), original=error.code)
        if again is not None:
            with row():
                button("Try again", again, "", "resend", small=True)


def loading() -> Element:
    """Bars in the shape of rows, only after 300 ms."""
    with el("div", "of-loading", role="status", aria_label="Loading") as made:
        for width in (34, 62, 48, 70, 40):
            el("i").style(f"width: {width}%")
    return made


def sentence(said: str) -> str:
    """What an error says, as a sentence of its own."""
    return said[:1].upper() + said[1:]


def toast(said: str, icon_: str = "check", more: str = "", act: Act | None = None, href: str = "") -> None:
    """What happened, and the way back or on; for ten seconds."""
    from onefold.web.shell import here

    with here().toasts:
        made = toast_box(said, icon_, more, act, href)
        ui.timer(10, lambda: None if made.is_deleted else made.delete(), once=True)


def toast_box(said: str, icon_: str = "check", more: str = "", act: Act | None = None, href: str = "") -> Element:
    """The box of a toast."""
    with el("div", "of-toast", role="status") as made:
        icon(icon_)
        text(said)
        if href:
            link(more, href)
        elif act is not None:
            on(el("button", "", more, type="button"), "click", lambda: done())
        with el("button", "", type="button", aria_label="Dismiss") as gone:
            icon("close", "of-i-14")

    async def done() -> None:
        found = act() if act else None
        if iscoroutine(found):
            await found
        if not made.is_deleted:
            made.delete()

    on(gone, "click", made.delete)
    return made


@contextmanager
def dialog(title: str, *, wide: bool = False) -> Iterator[ui.dialog]:
    """A dialog, open; what it holds stands within."""
    with ui.dialog(value=True) as box:
        box.props["aria-label"] = title
        box.on("hide", box.delete)
        with el("div", "of-dialog of-wide" if wide else "of-dialog", role="document"):
            el("h2", "", title)
            yield box


def confirm(title: str, said: str, act: str, do: Act, *, destroy: bool = True) -> None:
    """Ask first, saying what will happen; the button repeats the act."""

    async def done() -> None:
        found = do()
        if iscoroutine(found):
            await found
        box.close()

    with dialog(title) as box:
        question(said, act, box.close, done, destroy=destroy)


def question(said: str, act: str, cancel: Act, do: Act, *, destroy: bool = True) -> None:
    """What will happen, and the buttons for it."""
    el("p", "of-text", said)
    with el("div", "of-dialog-end"):
        button("Cancel", cancel)
        button(act, do, "destroy" if destroy else "primary")


def dump(value: Any) -> ui.html:
    """JSON, coloured; every text in it is escaped."""
    return ui.html(f'<pre class="of-json" tabindex="0">{_colored(value, 0)}</pre>', sanitize=False)


def _colored(value: Any, depth: int) -> str:
    inner, end = "  " * (depth + 1), "  " * depth
    if isinstance(value, dict) and value:
        items = (
            f'{inner}<span class="k">{_json(key)}</span>: {_colored(one, depth + 1)}' for key, one in value.items()
        )
        return "{\n" + ",\n".join(items) + f"\n{end}}}"
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(f"{inner}{_colored(one, depth + 1)}" for one in value) + f"\n{end}]"
    kind = "s" if isinstance(value, str) else "b" if value is None or isinstance(value, bool) else "n"
    shown = _json(value)
    return f'<span class="{kind}">{shown}</span>' if not isinstance(value, dict | list) else shown


def _json(value: Any) -> str:
    return escape(json.dumps(value, ensure_ascii=False), quote=False)
