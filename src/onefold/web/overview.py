"""The overview: is it healthy, and what needs somebody."""

from __future__ import annotations

from nicegui.page_arguments import PageArguments

from onefold.web import kit
from onefold.web.shell import ask, crumbs


async def overview(args: PageArguments) -> None:
    crumbs(("Overview", "/"))
    await ask(lambda workspace: workspace.configuration())
    with kit.page():
        kit.simple_head("Overview")
