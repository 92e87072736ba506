"""What a row would do, in the mapping editor: asked of the facade, and said in words first, then as its calls."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from onefold.errors import OnefoldError
from onefold.web import edit, kit, words
from onefold.web.jump import name_of
from onefold.web.kit import el, icon, link, text
from onefold.web.profiles import address
from onefold.workspace import Workspace

Said = dict[str, Any]  # as Workspace.test_mapping says it


def called(workspace: Workspace, change: edit.Change, selector: str, key: Any, *, effects: bool = False) -> Said:
    """What a mapping makes of a row, as Workspace.test_mapping."""
    text_ = None if key is None else key if isinstance(key, str) else json.dumps(key)
    return change.tried(workspace).test_mapping(selector, text_, effects=effects)


def tried(workspace: Workspace, change: edit.Change, selector: str, key: Any, space: str) -> Said:
    """The same with what it does to profiles; one that is updated with its `name`."""
    said = called(workspace, change, selector, key, effects=True)
    for one in said["effects"]:
        if one["do"] == "update" and space:
            with suppress(OnefoldError):  # it is known by an identifier then
                accounts = one["segment_id"].startswith("grp_")
                one["name"] = name_of(workspace.profile(space, f"segment_id:{one['segment_id']}", accounts=accounts))
    return said


def show(said: Said | None, wrong: Iterable[str], space: str, *, waits: bool = False) -> None:
    """What a row would do to profiles of a `space`, or the sentences that are `wrong`; then its calls.

    `waits`: what it would do is not known yet.
    """
    with el("div", "of-will"):
        el("h3", "of-h2", "What this row would do")
        with el("ul", "of-stack").style("gap: 6px"):
            if said is None or said["rejected"]:
                for sentence in dict.fromkeys(wrong):
                    _does("failed", "bad", f"Rejected: {sentence}" if said else sentence)
                if said and said["rejected"]:
                    with el("li"):
                        text("")
                        kit.code(said["rejected"]["code"])
            elif waits and said["selected"]:
                _does("run", "run", "A sync is writing to this space; what the row would do is shown in a moment")
            elif not said["selected"]:
                _does("never", "off", "Nothing: the trigger does not select this row")
            else:
                sent = sum(len(call.get("traits") or {}) for call in said["calls"])
                _effects(said["effects"], sent, space)
    for at, call in enumerate(said["calls"] if said else ()):
        with el("div", "of-pane-head").style("border: 0; position: static"):
            el("h3", "of-h2", f"Call {at + 1} of {len(said['calls']) if said else 1}")
            text(call["type"], "of-note")
            el("div", "of-grow")
            made = kit.button("Copy", None, "ghost", "copy", small=True)
            made.props["data-copy"] = json.dumps(call, ensure_ascii=False, indent=2)
        kit.dump(call)


def _effects(effects: list[dict[str, Any]], sent: int, space: str) -> None:
    """The effects in words: first who, then what changes. `sent`: traits of the call."""
    traits = [one for one in effects if one["do"] in ("set", "unset")]
    stay = sent - sum(one["do"] == "set" for one in traits)
    for one in effects:
        if one["do"] in ("create", "update"):
            word, name = ("Create", "user-plus") if one["do"] == "create" else ("Update", "user-edit")
            rest = f"{one.get('name') or one['profile']}: {words.many(len(traits), 'trait changes', 'traits change')}"
            rest += f", {stay:,} stay" if stay > 0 else ""
            with el("li"):
                icon(name, "of-tone-acc")
                with el("span"):
                    text(f"{word} ")
                    if one["do"] == "update" and space:
                        link(words.brief(one["segment_id"]), address(space, one["segment_id"]), "of-mono")
                    else:
                        text("a profile")
                    text(f" {rest}")
        elif one["do"] == "merge":
            first, second = (words.brief(segment) for segment in one["joined"])
            _does(
                "merge",
                "warn",
                f"Merge 2 profiles: {second} into {first}, because this row has identifiers of both",
            )
        elif one["do"] in ("drop", "ignore"):
            _does("partly", "warn", f"Leave out {one['identifier']}: {one['why']}")
        elif one["do"] == "subscribe":
            channel = words.CHANNELS.get(one["type"], (one["type"], "mail"))
            status = words.SUBSCRIPTIONS.get(one["status"] or "", ("without a statement", ""))[0].lower()
            groups = "".join(f", {group['name']} {group['status'].lower()}" for group in one.get("groups", ()))
            _does(channel[1], "acc", f"{channel[0]} {one['key']} becomes {status}{groups}")
    for one in traits[:12]:
        before = "" if one["before"] is None else f", was {words.flat(one['before'], 40)}"
        _does(
            "text",
            "off",
            f"{one['trait']} = {words.flat(one['value'], 60)}{before}"
            if one["do"] == "set"
            else f"{one['trait']} is removed{before}",
        )
    if not effects:
        _does("succeeded", "ok", "Nothing new: the profile already looks like this")


def _does(name: str, tone: str, said: str) -> None:
    with el("li"):
        icon(name, f"of-tone-{tone}")
        text(said)
