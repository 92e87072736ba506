"""Settings: the account, alerts, access tokens, users, and who changed what."""

from __future__ import annotations

from typing import Any

from nicegui import ui
from nicegui.page_arguments import PageArguments

from onefold.roles import ADMIN, ROLES
from onefold.web import alerts, edit, kit, words
from onefold.web.kit import column, el, text
from onefold.web.shell import ask, crumbs, given, here, may
from onefold.workspace import Workspace

TABS = (
    ("account", "Account"),
    ("alerts", "Alerts"),
    ("tokens", "Access tokens"),
    ("users", "Users"),
    ("audit", "Audit log"),
)
MAY = {"viewer": "reads", "editor": "changes and syncs", "admin": "changes, syncs, and says who may do what"}


async def settings(args: PageArguments) -> None:
    """The account of who looks."""
    await _tab("account")


async def tab(args: PageArguments) -> None:
    """One of the others."""
    await _tab(given(args, "tab"))


async def _tab(name: str) -> None:
    word = dict(TABS).get(name, "Settings")
    crumbs(("Settings", "/settings"), (word, f"/settings/{name}"))
    with kit.page():
        kit.simple_head("Settings", f"Workspace {here().name}")
        shown = TABS if may(ADMIN) else TABS[:2]
        href = {"account": "/settings"}
        kit.tabs(
            [(href.get(key, f"/settings/{key}"), said, None) for key, said in shown],
            href.get(name, f"/settings/{name}"),
        )
        build = {"alerts": alerts.panel, "tokens": _tokens, "users": _users, "audit": _audit}.get(name)
        if build is None:
            _account()
        else:
            await build()


# --- the account --------------------------------------------------------------------------------------


def _account() -> None:
    who = here().who
    with kit.panel("You"), el("div", "of-panel-body"):
        with kit.row():
            el("span", "of-face", words.initials(who.name), aria_hidden="true")
            text(who.name, "of-name")
            kit.pill(who.role)
            text(MAY[who.role], "of-note")
        with el("form", method="post", action="/logout"):
            with el("button", "of-btn", type="submit"):
                text("Log out")
    theme = ui.context.client.request.cookies.get("onefold_theme", "")
    with kit.panel("Theme"), el("div", "of-panel-body"):
        options = [("", "As the system"), ("light", "Light"), ("dark", "Dark")]
        kit.segments(options, theme, _theme, "Theme")
    with kit.panel("Password"), el("div", "of-panel-body of-narrow"):
        form = edit.Form()
        form.add("old", "Password now", type_="password")
        form.add("new", "New password", "", "At least 12 characters; a few words are good.", type_="password")

        async def change() -> None:
            old, new = str(form.fields["old"].value), str(form.fields["new"].value)
            if await form.attempt(lambda: ask(lambda workspace: workspace.change_password(old, new))):
                kit.toast("The password is changed; other sessions have ended")

        with kit.row():
            kit.button("Change password", change, "")


def _theme(name: str) -> None:
    ui.run_javascript(
        f"document.cookie = 'onefold_theme={name};path=/;max-age=31536000;samesite=lax'; location.reload()"
    )


# --- tokens -------------------------------------------------------------------------------------------


async def _tokens() -> None:
    def read(workspace: Workspace) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
        return workspace.tokens(), [(space.slug, space.name) for space in workspace.configuration().spaces]

    found, spaces = await ask(read)
    with kit.panel("Access tokens", "of the Profile API and the configuration API") as (right, _):
        with right:
            kit.button("Create token", lambda: _new_token(spaces), "", "plus", small=True)
        if not found:
            with kit.empty(
                "No tokens yet", "A token lets a program read the profiles of one space, or the configuration."
            ):
                pass
            return
        columns = [
            column("name", "Name", name=True),
            column("id", "Id", mono=True),
            column("opens", "Opens"),
            column("made", "Created", faint=True),
            column("used", "Last used", faint=True),
            column("state", "State"),
            column("act", "Revoke", tight=True, hidden=True),
        ]
        rows = [
            {
                "id": token["id"],
                "name": token.get("name") or "—",
                "opens": token.get("space") or "the configuration API",
                "made": words.ago(token["created_at"]),
                "used": words.ago(token.get("used_at")),
                "state": {"t": "Revoked", "icon": "never", "tone": "off"}
                if token.get("revoked_at")
                else {"t": "Good", "icon": "succeeded", "tone": "ok"},
                "act": None if token.get("revoked_at") else {"act": "Revoke", "ghost": True},
            }
            for token in found
        ]
        kit.Table(columns, rows, "Access tokens").on_act(lambda token, _: _revoke(token))


def _new_token(spaces: list[tuple[str, str]]) -> None:
    with kit.dialog("Create an access token"):
        form = edit.Form()
        form.add("name", "Name", "", "What uses it, so that you know it later.")
        form.add(
            "space", "Opens", spaces[0][0] if spaces else "", options=[*spaces, ("", "The configuration API (admin)")]
        )
        place = el("div")

        async def done() -> None:
            name, space = form.value("name"), form.value("space") or None
            made: dict[str, Any] = {}

            async def act() -> None:
                made.update(await ask(lambda workspace: workspace.create_token(space, name)))

            if await form.attempt(act):
                place.clear()
                with place:
                    kit.alert("Copy it now: it is shown only once", tone="warn")
                    kit.copy(made["token"], made["token"])
                create.set_visibility(False)

        with el("div", "of-dialog-end"):
            kit.button("Close", ui.navigate.reload)
            create = kit.button("Create token", done, "primary")


def _revoke(token: str) -> None:
    async def done() -> None:
        await ask(lambda workspace: workspace.revoke_token(token))
        ui.navigate.reload()

    kit.confirm(f"Revoke the token {token}?", "Whatever uses it is refused within a second.", "Revoke token", done)


# --- users --------------------------------------------------------------------------------------------


async def _users() -> None:
    found = await ask(Workspace.users)
    with kit.panel("Users", str(len(found))) as (right, _):
        with right:
            kit.button("Add user", _new_user, "", "plus", small=True)
        columns = [
            column("name", "Name", name=True),
            column("role", "Role"),
            column("made", "Added", faint=True),
            column("used", "Last login", faint=True),
            column("menu", "Actions", tight=True, hidden=True),
        ]
        menu = [*({"key": role, "t": f"Make {role}"} for role in ROLES), {"key": "remove", "t": "Remove", "bad": True}]
        rows = [
            {
                "id": user["name"],
                "name": user["name"],
                "role": {"t": user["role"], "s": MAY[user["role"]]},
                "made": words.ago(user["created_at"]),
                "used": words.ago(user["used_at"]),
                "menu": {"menu": menu, "label": f"Actions of {user['name']}"},
            }
            for user in found
        ]
        kit.Table(columns, rows, "Users").on_act(_user)


async def _user(name: str, act: str) -> None:
    async def remove() -> None:
        await ask(lambda workspace: workspace.remove_user(name))
        ui.navigate.reload()

    if act == "remove":
        kit.confirm(
            f"Remove {name}?",
            "Their sessions end at once. What they did stays in the audit log.",
            "Remove user",
            remove,
        )
        return
    await ask(lambda workspace: workspace.change_user(name, role=act))
    ui.navigate.reload()


def _new_user() -> None:
    with kit.dialog("Add a user") as box:
        form = edit.Form()
        form.add("name", "Name or e-mail address", must=True)
        form.add("role", "Role", "viewer", options=[(role, f"{role.capitalize()}: {MAY[role]}") for role in ROLES])
        form.add(
            "password", "First password", "", "At least 12 characters; they can change it.", type_="password", must=True
        )

        async def done() -> None:
            name, role, password = form.value("name"), form.value("role"), str(form.fields["password"].value)
            if await form.attempt(lambda: ask(lambda workspace: workspace.create_user(name, role, password))):
                box.close()
                ui.navigate.reload()

        with el("div", "of-dialog-end"):
            kit.button("Cancel", box.close)
            kit.button("Add user", done, "primary")


# --- the audit log ------------------------------------------------------------------------------------


async def _audit() -> None:
    found = await ask(lambda workspace: workspace.audit(200))
    with kit.panel("Audit log", "who changed what, newest first"):
        columns = [
            column("at", "When", faint=True),
            column("who", "Who", name=True),
            column("action", "What"),
            column("object", "To what", mono=True),
            column("lines", "Change"),
        ]
        rows = [
            {
                "id": str(line["id"]),
                "at": {"t": words.ago(line["at"]), "title": words.exact(line["at"])},
                "who": {"t": line["who"], "s": "" if line["kind"] == "user" else line["kind"]},
                "action": line["action"],
                "object": line["object"],
                "lines": {"t": words.flat(" · ".join(line["lines"]), 160), "title": "\n".join(line["lines"])},
            }
            for line in found
        ]
        kit.Table(columns, rows, "Audit log", dense="34")
