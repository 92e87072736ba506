"""The frame around every screen: navigation, top bar, breadcrumb; and asking the facade as who is logged in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from nicegui import Client, context, ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement
from nicegui.elements.sub_pages import SubPages
from nicegui.page_arguments import PageArguments

from onefold.errors import NotFound, OnefoldError
from onefold.roles import Who
from onefold.telemetry import logger
from onefold.web import kit, standing
from onefold.web.kit import el, icon, link, text
from onefold.workspace import Workspace

T = TypeVar("T")
Build = Callable[[PageArguments], Awaitable[None]]

NAVIGATION = (
    ("", (("Overview", "/", "home"),)),
    (
        "Syncs",
        (
            ("Sources", "/sources", "database"),
            ("Models", "/models", "model"),
            ("Destinations", "/destinations", "destination"),
            ("Runs", "/runs", "run"),
            ("Rejected", "/rejected", "rejected"),
        ),
    ),
    (
        "Profiles",
        (
            ("Spaces", "/spaces", "space"),
            ("Profiles", "/profiles", "profiles"),
            ("Identity rules", "/rules", "rules"),
            ("Debugger", "/debugger", "debugger"),
        ),
    ),
)
BELOW = (("Usage", "/usage", "usage"), ("Settings", "/settings", "settings"), ("Help and shortcuts", "/help", "help"))


class LoggedOut(OnefoldError):
    """The session has ended."""


@dataclass
class Shell:
    """What a page of somebody has around its screens."""

    workspace: Workspace
    token: str
    who: Who
    address: str
    name: str = ""
    crumbs: Element = field(init=False)
    toasts: Element = field(init=False)
    items: dict[str, Element] = field(default_factory=dict)
    count: Element = field(init=False)
    skeleton: Element | None = None
    came: bool = False  # whether a screen was shown before

    def counted(self, rows: int) -> None:
        """So many rejected rows are open."""
        assert isinstance(self.count, TextElement)
        self.count.text = f"{rows:,}"
        self.count.props["aria-label"] = f"{rows:,} open"
        self.count.set_visibility(rows > 0)

    def asked(self, read: Callable[[Workspace], T]) -> T:
        """Read from the facade as who is logged in now. In a thread. Raises OnefoldError."""
        session = self.workspace.session(self.token, self.address)
        if session is None:
            raise LoggedOut("your session has ended; log in again", code="logged_out")
        workspace = self.workspace.again(session.who)
        try:
            return read(workspace)
        finally:
            workspace.closing.close()


_SHELLS: WeakKeyDictionary[Client, Shell] = WeakKeyDictionary()


def here() -> Shell:
    return _SHELLS[context.client]


def may(role: str) -> bool:
    """Whether who looks at this may do what takes a role."""
    return here().who.may(role)


# Screens wait for warehouses: requests of the APIs have threads of their own.
_THREADS = ThreadPoolExecutor(16, "screen")


async def _threaded(shell: Shell, read: Callable[[Workspace], T]) -> T:
    """Not by NiceGUI's `run.io_bound`: that returns None, instead of ending, where somebody goes to another screen."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, shell.asked, read)


def begin(read: Callable[[Workspace], T]) -> asyncio.Future[T]:
    """Ask as `ask`, and go on meanwhile."""
    return asyncio.ensure_future(_threaded(here(), read))


async def ask(read: Callable[[Workspace], T]) -> T:
    """What the facade says, read in a thread so that nothing else waits. Raises OnefoldError."""
    shell, client = here(), context.client
    try:
        found = await _threaded(shell, read)
    except LoggedOut:
        client.run_javascript("location.assign('/login')")
        raise
    if shell.skeleton is not None and not shell.skeleton.is_deleted:
        shell.skeleton.delete()
    return found


def crumbs(*steps: tuple[str, str]) -> None:
    """Where this is: (word, address); the last one is this page."""
    shell = here()
    shell.crumbs.clear()
    with shell.crumbs, el("ol"):
        for word, href in ((shell.name, "/"), *steps[:-1]):
            with el("li"):
                link(word, href)
        word, _ = steps[-1]
        with el("li"):
            el("span", "", word, aria_current="page")
    ui.page_title(f"{word} · Onefold")


def screen(build: Build) -> Build:
    """A screen: what it cannot show it says."""

    async def shown(args: PageArguments) -> None:
        shell = here()
        shell.skeleton = kit.loading()
        if shell.came:  # by a link: whoever reads by keyboard goes on in the new screen
            ui.run_javascript(
                "if (document.activeElement === document.body) document.querySelector('.of-main').focus()"
            )
        shell.came = True
        _current(shell, args.path)
        try:
            await build(args)
        except OnefoldError as error:
            if not shell.skeleton.is_deleted:
                shell.skeleton.delete()
            missing = isinstance(error, NotFound)
            crumbs(("Not found" if missing else "Error", args.path))
            with kit.page():
                kit.simple_head("Not found" if missing else "This cannot be shown")
                kit.failure(error, None if missing else lambda: ui.navigate.to(args.path))
        except Exception as error:  # whatever it is, people are told
            logger().exception("screen_failed", path=args.path)
            with kit.page():
                kit.alert(
                    "This screen failed",
                    "Nothing was changed by it. What happened stands in the server's log.",
                    type(error).__name__,
                )
        finally:
            if not shell.skeleton.is_deleted:
                shell.skeleton.delete()

    # NiceGUI looks at the annotation itself, not at its text.
    shown.__annotations__ = {"args": PageArguments}
    return shown


def _current(shell: Shell, path: str) -> None:
    """Mark the item of the navigation that a path belongs to."""
    if path.startswith("/spaces/") and "/profiles/" in path:
        path = "/profiles"
    for href, item in shell.items.items():
        on = path == href if href == "/" else path == href or path.startswith(f"{href}/")
        if on:
            item.props["aria-current"] = "page"
        else:
            item.props.pop("aria-current", None)
        item.update()


class Screens(SubPages):
    """The sub pages, with a 404 of our own."""

    def _render_404(self) -> None:
        crumbs(("Not found", "/"))
        with kit.page():
            kit.simple_head("Not found")
            with kit.empty("There is nothing at this address", "It may have been removed, or the address is wrong."):
                kit.button("Go to the overview", href="/")

    def _render_error(self, _: Exception) -> None:
        kit.alert("This screen failed", "Nothing was changed by it. What happened stands in the server's log.")


def _landmark() -> Element:
    """The `main` that every page comes in; ours is the screen."""
    slot = context.client.content.parent_slot
    assert slot is not None
    return slot.parent


def build(shell: Shell, routes: dict[str, Build], jump: Callable[[], Any]) -> None:
    """Build the frame, and the screen of the address in it."""
    _SHELLS[context.client] = shell
    _landmark().props["role"] = "presentation"
    with el("div", "of-app"):
        _navigation(shell)
        with el("div", "of-body"):
            with el("header", "of-top"):
                shell.crumbs = el("nav", "of-crumbs", aria_label="Breadcrumb")
                with el("button", "of-jump", type="button", id="of-jump", aria_label="Search or jump to") as opener:
                    icon("search")
                    text("Search or jump to…")
                    el("kbd", "of-mod", "Ctrl K")
                kit.on(opener, "click", jump)
            main = el("main", "of-main", tabindex="-1")
    _counting(shell)
    shell.toasts = el("div", "of-toasts", aria_live="polite")
    ui.skip_link(target=main)
    with main:
        Screens({path: screen(page) for path, page in routes.items()})


def _navigation(shell: Shell) -> None:
    with el("nav", "of-nav", aria_label="Main"):
        with el("a", "of-brand", href="/"):
            ui.html(LOGO, sanitize=False).classes("of-bare")
            text("Onefold")
            el("small", "", shell.name)
        for title, items in NAVIGATION:
            if title:
                el("h2", "", title)
            for item in items:
                _item(shell, *item)
        el("div", "of-grow")
        for item in BELOW:
            _item(shell, *item)
        with shell.items["/help"]:
            el("kbd", "", "?")


def _item(shell: Shell, word: str, href: str, name: str) -> None:
    with el("a", "of-item", href=href) as made:
        icon(name)
        text(word)
        if href == "/rejected":
            shell.count = el("span", "of-count", "")
            shell.count.set_visibility(False)
    shell.items[href] = made


COUNT = 4.0  # seconds between two looks at the open rejected rows


def _counting(shell: Shell) -> None:
    """Keep the number of open rejected rows beside Rejected."""

    async def look() -> None:
        with suppress(OnefoldError):  # screens say what is wrong
            found = await _threaded(shell, standing.groups)
            shell.counted(sum(group["rows"] for group in found))

    ui.timer(COUNT, look)


LOGO = (
    '<svg class="of-logo" viewBox="0 0 20 20" aria-hidden="true"><rect width="20" height="20" rx="5"/>'
    '<path d="M5 5.5v9M5 10h5l5-3" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round"/></svg>'
)


def path(*parts: str) -> str:
    """An address made of names."""
    from urllib.parse import quote

    return "/" + "/".join(quote(part, safe="") for part in parts)


def given(args: PageArguments, name: str) -> str:
    """A parameter in the path of a screen."""
    from urllib.parse import unquote

    return unquote(args.path_parameters[name])


def asked(args: PageArguments, name: str, default: str = "") -> str:
    """A parameter in the query of a screen's address."""
    return str(args.query_parameters.get(name, default))
