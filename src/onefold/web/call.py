"""One call of the debugger: what it is called in a list, and whole."""

from __future__ import annotations

import json
from typing import Any

from onefold.roles import EDITOR
from onefold.web import kit, words
from onefold.web.kit import Act, el, link, text
from onefold.web.profiles import address
from onefold.web.shell import ask, may, path

Call = dict[str, Any]  # as debugger.read gives it


class Detail:
    """A call whole, pretty or raw; a rejected live one can be sent again."""

    def __init__(self, source: str, space: str, call: Call, close: Act) -> None:
        self._source, self._space, self._call = source, space, call
        with el("div", "of-pane-head"):
            el("h2", "of-cut", title(call))
            text(call["type"] or "row", "of-note")
            el("div", "of-grow")
            kit.segments([("pretty", "Pretty"), ("raw", "Raw")], "pretty", self._show, "View")
            self._copy = kit.button("", None, "ghost", "copy", label="Copy the call as JSON")
            kit.button("", close, "ghost", "close", label="Close")
        self._body = el("div")
        self._show("pretty")

    def _show(self, view: str) -> None:
        said = self._call["call"]
        raw = json.dumps(said, ensure_ascii=False)
        self._copy.props["data-copy"] = raw if view == "raw" else json.dumps(said, ensure_ascii=False, indent=2)
        self._copy.update()
        self._body.clear()
        with self._body:
            if view == "raw":
                el("pre", "of-json", raw, tabindex="0")
                return
            with el("div", "of-panel-body"):
                if self._call["status"] == "rejected":
                    self._rejected()
                self._facts()
            kit.dump(said)

    def _rejected(self) -> None:
        said = self._call["message"] or ""
        kit.alert(f"Rejected: {self._call['code']}", kit.sentence(said))
        if self._call["id"] and may(EDITOR):
            with kit.row():
                kit.button("Resend", self._resend, "", "resend", small=True)
                kit.note("As it was received, with its time and message id, by the rules of now.")

    async def _resend(self) -> None:
        await ask(lambda workspace: workspace.resend_calls(self._source, call=self._call["id"]))
        kit.toast("The call was sent again; what becomes of it is shown as a new call")

    def _facts(self) -> None:
        call = self._call
        with el("dl", "of-facts-list"):
            el("dt", "", "Received")
            el("dd", "of-mono", words.clock(call["received_at"], fraction=True), title=words.exact(call["received_at"]))
            if call["message_id"]:
                el("dt", "", "Message id")
                el("dd", "of-mono of-break", call["message_id"])
            if identifiers(call):
                el("dt", "", "Identifiers")
                el("dd", "of-mono of-break", identifiers(call))
            for key, word in (("profile", "Belongs to"), ("account", "Account")):
                if call[key]:
                    el("dt", "", word)
                    with el("dd"):
                        link(words.brief(call[key]), address(self._space, call[key]), "of-mono")
            if call["run_id"]:
                el("dt", "", "Run")
                with el("dd"):
                    link(call["mapping"] or call["run_id"], path("runs", call["run_id"]))


def title(call: Call) -> str:
    """What a call is called in a list."""
    if call["event"]:
        return str(call["event"])
    message = _message(call)
    properties, traits = (
        found if isinstance(found := message.get(key), dict) else {} for key in ("properties", "traits")
    )
    named = " ".join(str(traits[key]) for key in ("first_name", "last_name") if traits.get(key))
    found = message.get("name") or properties.get("path") or traits.get("name") or named or traits.get("email")
    return words.flat(found, 80) if found else (call["mapping"] or "").partition("/")[2] or "(no name)"


def identifiers(call: Call) -> str:
    """Whom a call says that it is about."""
    message = _message(call)
    found = [str(message[key]) for key in ("userId", "groupId") if message.get(key)]
    if not message.get("userId") and message.get("anonymousId"):
        found.insert(0, f"anon {message['anonymousId']}")
    context = message.get("context")
    external = context.get("externalIds") if isinstance(context, dict) and not found else None
    found += [str(one.get("id")) for one in external or () if isinstance(one, dict)]
    return words.flat(", ".join(found), 60)


def _message(call: Call) -> dict[str, Any]:
    return call["call"] if isinstance(call["call"], dict) else {}
