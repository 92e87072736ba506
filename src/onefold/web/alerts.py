"""Alerts, in Settings: who is told when a sync went wrong; added, changed, tried, removed."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from onefold.roles import EDITOR
from onefold.web import edit, kit, words
from onefold.web.kit import column, el
from onefold.web.shell import ask, may
from onefold.workspace import Workspace

RULES = {
    "run_failed": "A run failed",
    "run_partly": "A run rejected rows",
    "rejected_above": "Rejected above",
    "volume_changed": "Rows changed by more than",
    "nothing_delivered": "Nothing delivered for",
}
CHANNELS = {"email": "E-mail", "webhook": "Webhook", "slack": "Slack"}
# Dotted place in the file -> label, hint, whether it is kept secret.
PLACES = {
    "email.to": ("E-mail to", "Several with commas.", False),
    "email.from": ("E-mail from", "The sender.", False),
    "email.server": ("Mail server", "smtp://USER:PASSWORD@HOST:587, or smtps://.", False),
    "webhook.url": ("Webhook", "Takes a POST with a JSON body.", False),
    "webhook.secret": ("Secret of the webhook", "Signs the body, so that the receiver can trust it.", True),
    "slack.url": ("Slack", "The address of an incoming webhook.", True),
}
MENU = [
    {"key": "edit", "t": "Edit"},
    {"key": "test", "t": "Send a test"},
    {"key": "remove", "t": "Remove", "bad": True},
]
COLUMNS = [
    column("name", "Alert", name=True),
    column("when", "When"),
    column("mappings", "Mappings"),
    column("to", "Tells"),
    column("state", "State"),
    column("last", "Last message", faint=True),
    column("menu", "Actions", tight=True, hidden=True),
]
Alert = dict[str, Any]


async def panel() -> None:
    """The panel of alerts."""
    found = {alert["slug"]: alert for alert in await ask(Workspace.alerts)}
    with kit.panel("Alerts", "who is told when a sync goes wrong") as (right, _):
        if may(EDITOR):
            with right:
                kit.button("Add alert", lambda: _form(edit.add("alert", "", {}), list(found)), "", "plus", small=True)
        if not found:
            said = "An alert tells people by e-mail, webhook or Slack when runs fail, reject rows or deliver nothing."
            with kit.empty("No alerts yet", said):
                pass
            return

        async def act(slug: str, what: str) -> None:
            if what == "edit":
                change = await ask(lambda workspace: edit.read(workspace, "alert", slug))
                _form(change, list(found))
            elif what == "test":
                await _test(slug)
            else:
                _remove(found[slug])

        kit.Table(COLUMNS, [_row(alert) for alert in found.values()], "Alerts").on_act(act)


def _row(alert: Alert) -> kit.Cell:
    when = ", ".join(_rule(name, value) for name, value in alert["when"].items())
    to = ", ".join(f"{CHANNELS[name]} {place}" for name, place in alert["to"].items())
    newest = next(iter(alert["messages"]), None)
    fires = len(alert["fires"])
    last: kit.Cell = {"t": "none yet"}
    if newest:
        answer = newest["answer"] or "not sent yet"
        last = {"t": words.ago(newest["sent_at"] or newest["at"]), "s": "" if newest["sent_at"] else "not sent"}
        last |= {"title": answer, "tone": "" if newest["sent_at"] else "bad"}
    return {
        "id": alert["slug"],
        "name": alert["name"],
        "when": {"t": when, "title": when},
        "mappings": ", ".join(alert["mappings"]) or "all",
        "to": {"t": to, "title": to},
        "state": {"t": f"{fires} firing", "icon": "partly", "tone": "bad"}
        if fires
        else {"t": "Quiet", "icon": "succeeded", "tone": "ok"},
        "last": last,
        "menu": {"menu": MENU, "label": f"Actions of {alert['name']}"} if may(EDITOR) else None,
    }


def _rule(name: str, value: Any) -> str:
    if value is True:
        return RULES[name]
    return f"{RULES[name]} {value}{'' if name == 'nothing_delivered' else ' %'}"


async def _test(slug: str) -> None:
    """Send a test message now, and say what the other sides answered."""
    found = await ask(lambda workspace: workspace.test_alert(slug))
    with kit.dialog("A test was sent") as box:
        for line in found:
            kit.alert(
                f"{CHANNELS[line['channel']]}: {'taken' if line['sent'] else 'not taken'}",
                original=str(line["answer"]),
                tone="ok" if line["sent"] else "bad",
            )
        with el("div", "of-dialog-end"):
            kit.button("Close", box.close)


def _remove(alert: Alert) -> None:
    async def done() -> None:
        await edit.remove("alert", alert["slug"])
        ui.navigate.reload()

    said = "Nobody is told by it any more. Its messages that are not sent yet are not sent."
    kit.confirm(f"Remove the alert {alert['name']}?", said, "Remove alert", done)


# --- the form -----------------------------------------------------------------------------------------


def _form(change: edit.Change, taken: list[str]) -> None:
    """Add an alert, or change one. Secrets come hidden, and stay as they are unless something else is typed."""
    now = change.found or {}
    when = now.get("when") or ({} if now else {"run_failed": True})
    with kit.dialog(f"Edit {now.get('name') or change.slug}" if now else "Add an alert", wide=True) as box:
        form = edit.Form()
        form.add("name", "Name", now.get("name") or change.slug, must=True)
        el("h3", "of-h2", "When")
        flags = {name: bool(when.get(name)) for name in ("run_failed", "run_partly")}
        with kit.row():
            for name, on in flags.items():
                kit.checkbox(RULES[name], on, lambda said, name=name: flags.update({name: said}))  # type: ignore[misc]
        with el("div", "of-two"):
            form.add("when.rejected_above", RULES["rejected_above"], when.get("rejected_above", ""), "Such as 5%.")
            form.add("when.volume_changed", RULES["volume_changed"], when.get("volume_changed", ""), "Such as 50%.")
            form.add(
                "when.nothing_delivered", RULES["nothing_delivered"], when.get("nothing_delivered", ""), "Such as 24h."
            )
            form.add("mappings", "Mappings", ", ".join(now.get("mappings") or ()), "DEST/MAPPING; all, if left out.")
        el("h3", "of-h2", "Whom it tells")
        with el("div", "of-two"):
            for place, (label, hint, hidden) in PLACES.items():
                where, _, key = place.partition(".")
                value = (now.get(where) or {}).get(key, "")
                shown = ", ".join(value) if isinstance(value, list) else value
                form.add(place, label, shown, hint, type_="password" if hidden else "text")

        async def done() -> None:
            name = form.value("name")
            slug = change.slug or edit.slug(name, taken)
            found = _typed(form, flags)
            if await form.attempt(lambda: edit.save(edit.Change("alert", slug, found, change.version))):
                box.close()
                ui.navigate.reload()

        with el("div", "of-dialog-end"):
            kit.button("Cancel", box.close)
            kit.button("Save alert" if now else "Add alert", done, "primary")


def _typed(form: edit.Form, flags: dict[str, bool]) -> edit.Data:
    """The alert as the file has it."""
    found: edit.Data = {"name": form.value("name"), "when": {name: True for name, on in flags.items() if on}}
    for key in form.fields:
        where, _, name = key.partition(".")
        value = form.value(key)
        if not value or key == "name":
            continue
        if key in ("mappings", "email.to"):
            said: Any = [one.strip() for one in value.split(",") if one.strip()]
        else:
            said = int(value) if where == "when" and value.isdigit() else value
        if name:
            found.setdefault(where, {})[name] = said
        else:
            found[key] = said
    return found
