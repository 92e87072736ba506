"""What apply would change: two documents compared, as data and as lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onefold import alerts, canonical, config, retention, secret
from onefold.config import TARGET_TYPES, IdentifierRule, Workspace
from onefold.retention import NAMES as RETAINED

NONE = "(none)"
_SIGNS = {"create": "+", "update": "~", "delete": "-", "detach": "-"}
_WIDTH = 60

_RESEND = "rows already sent are not sent again; `onefold sync {0} --full` resends them"
_OTHER_SPACE = "another space: every row is new there; what was sent before stays where it is"
_COMPARES = "the next sync compares all rows with what was sent; rows that look different count as updated"
_EPOCH = "a new epoch: every row is new, nothing is deleted"
_RULES = "changed rules apply to what comes after; profiles stay as they are"
_STORE = (
    "data is not moved: it stays in the old store, and the new one begins empty; `onefold space copy` copies it first"
)
_SELECTED = "the next `onefold profiles-sync` makes all tables anew"
_OTHERS = "the tables there are those of another space: the next run stops, and asks for --full to replace them"
_DETACHED = "detached: its data stays until `onefold space delete`"
_RENAMED = "a renamed slug is a new object: {0} ends and {1} begins anew"


@dataclass(frozen=True)
class Change:
    """One object to create, update, delete or detach. The slug of a mapping is DEST/MAPPING.

    `changes` has (field, old text, new text) of an update, secrets masked; `notes` say what follows from it.
    """

    action: str
    kind: str
    slug: str
    changes: list[tuple[str, str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def plan(old: dict[str, Any] | None, new: dict[str, Any], env: Mapping[str, str]) -> list[Change]:
    """What turns one document into another, compared with their variables replaced; [] if nothing does."""
    before = Workspace("") if old is None else config.outline(old, env)
    after = config.outline(new, env)
    changes = [change for kind in _FACTS for change in _kind(kind, before, after)]
    if old is None:
        # A workspace with nothing in it yet is still something to apply.
        return changes or [Change("create", "workspace", after.name)]
    own = [("name", before.name, after.name)] if before.name != after.name else []
    kept = [(name, *(retention.told(getattr(w.retention, name)) for w in (before, after))) for name in RETAINED]
    own += [(f"retention.{name}", was, is_now) for name, was, is_now in kept if was != is_now]
    own += _order("destinations", before.destinations, after.destinations)
    return [*([Change("update", "workspace", after.name, own)] if own else []), *changes]


def lines(changes: Sequence[Change]) -> list[str]:
    """The plan as people read it; the last line counts."""
    if not changes:
        return ["No changes."]
    text: list[str] = []
    for change in changes:
        said = [f"{name}: {_pair(old, new)}" for name, old, new in change.changes]
        head = f"{_SIGNS[change.action]} {change.kind} {change.slug}"
        if len(said) == 1:
            head += f"  {said.pop()}"
        text += [head, *(f"    {line}" for line in said), *(f"    note: {note}" for note in change.notes)]
    count = Counter(change.action for change in changes)
    detached = f", {count['detach']} to detach" if count["detach"] else ""
    total = f"{count['create']} to create, {count['update']} to update, {count['delete']} to delete"
    return [*text, total + detached]


# --- what can change ----------------------------------------------------------------------------------

Facts = dict[str, Any]


def _spaces(workspace: Workspace) -> dict[str, Facts]:
    return {
        space.slug: {
            "name": space.name,
            "region": space.region,
            "store": space.store,
            "blocked_values": space.blocked_values,
            "limits.merges": space.limits.merges,
            "limits.identifiers": space.limits.identifiers,
            "identifiers": space.identifiers,
        }
        for space in workspace.spaces
    }


def _profile_sources(workspace: Workspace) -> dict[str, Facts]:
    return {
        source.slug: {"name": source.name, "space": space.slug, "write_key": source.write_key}
        for space in workspace.spaces
        for source in space.sources
    }


def _sources(workspace: Workspace) -> dict[str, Facts]:
    return {source.slug: {"name": source.name, "type": source.type, **source.options} for source in workspace.sources}


def _models(workspace: Workspace) -> dict[str, Facts]:
    return {
        model.slug: {"name": model.name, "source": model.source, "key": model.key, "sql": model.sql}
        for model in workspace.models
    }


def _destinations(workspace: Workspace) -> dict[str, Facts]:
    return {
        destination.slug: {
            "name": destination.name,
            "type": destination.type,
            "source": destination.source,
            "enabled": destination.enabled,
            "settings.endpoint": destination.endpoint,
            "settings.rate": destination.rate,
            "settings.retry": f"{destination.retry.days} days, {destination.retry.runs} runs",
        }
        for destination in workspace.destinations
    }


def _mappings(workspace: Workspace) -> dict[str, Facts]:
    found: dict[str, Facts] = {}
    for destination in workspace.destinations:
        for mapping in destination.mappings:
            reached = workspace.profile_source(mapping.engage_space)
            found[f"{destination.slug}/{mapping.slug}"] = {
                "name": mapping.name,
                "model": mapping.model or None,
                "action": mapping.action,
                "enabled": mapping.enabled,
                "trigger": mapping.trigger,
                "schedule": "manual" if mapping.schedule is None else str(mapping.schedule),
                "space": reached[0].slug if reached else None,
                **_leaves("fields", mapping.fields),
            }
    return found


def _profiles_syncs(workspace: Workspace) -> dict[str, Facts]:
    return {
        target.slug: {
            "name": target.name,
            "type": target.type,
            TARGET_TYPES.get(target.type, "path"): target.to,
            "schema": target.schema,
            "space": target.space,
            "schedule": "manual" if target.schedule is None else str(target.schedule),
            **{f"select.{what}": getattr(target, what) for what in ("tables", "traits", "events")},
        }
        for target in workspace.profiles_syncs
    }


def _leaves(name: str, value: Any) -> Facts:
    """An object of a mapping's fields as dotted names; a directive is one value."""
    if not isinstance(value, dict) or not value or any(key.startswith("@") for key in value):
        return {name: value}
    return {leaf: item for key, below in value.items() for leaf, item in _leaves(f"{name}.{key}", below).items()}


def _alerts(workspace: Workspace) -> dict[str, Facts]:
    return {alert.slug: alerts.facts(alert) for alert in workspace.alerts}


# In the order of the file.
_FACTS: dict[str, Callable[[Workspace], dict[str, Facts]]] = {
    "space": _spaces,
    "profile source": _profile_sources,
    "source": _sources,
    "model": _models,
    "destination": _destinations,
    "mapping": _mappings,
    "alert": _alerts,
    "profiles sync": _profiles_syncs,
}


# --- comparing ----------------------------------------------------------------------------------------


def _kind(kind: str, before: Workspace, after: Workspace) -> list[Change]:
    """The changes of one kind: what there is now in the order of the new document, then what goes."""
    old, new = _FACTS[kind](before), _FACTS[kind](after)
    renamed = _renamed({slug: old[slug] for slug in old if slug not in new}, new, old)
    changes: list[Change] = []
    for slug, facts in new.items():
        if slug not in old:
            notes = [_RENAMED.format(renamed[slug], slug)] if slug in renamed else []
            changes.append(Change("create", kind, slug, [], notes))
            continue
        differs = [name for name in {**old[slug], **facts} if old[slug].get(name) != facts.get(name)]
        notes = _notes(kind, slug, set(differs), before, after)
        texts = [_texts(name, old[slug].get(name), facts.get(name), before, after) for name in differs]
        if kind == "destination":
            texts += _order("mappings", _inside(before, slug), _inside(after, slug))
        if texts:
            changes.append(Change("update", kind, slug, texts, notes))
    spaces = {space.slug for space in after.spaces}
    for slug, facts in old.items():
        if slug not in new:
            detached = kind == "space" or (kind == "profile source" and facts["space"] not in spaces)
            notes = [_DETACHED] if kind == "space" else []
            changes.append(Change("detach" if detached else "delete", kind, slug, [], notes))
    return changes


def _inside(workspace: Workspace, slug: str) -> Sequence[config.Mapping]:
    return next(found.mappings for found in workspace.destinations if found.slug == slug)


def _order(name: str, old: Sequence[Any], new: Sequence[Any]) -> list[tuple[str, str, str]]:
    """The change of the order in which things are synced, of those that stay."""
    kept = {item.slug for item in old} & {item.slug for item in new}
    was, is_now = ([item.slug for item in items if item.slug in kept] for items in (old, new))
    return [(f"order of {name}", ", ".join(was), ", ".join(is_now))] if was != is_now else []


def _renamed(gone: dict[str, Facts], new: dict[str, Facts], old: dict[str, Facts]) -> dict[str, str]:
    """New slug -> the slug that went, where nothing else is different; a name that is the slug goes along."""
    renamed: dict[str, str] = {}
    for slug, facts in new.items():
        for other, theirs in gone.items() if slug not in old else ():
            same = {**facts, "name": None} == {**theirs, "name": None}
            names = facts["name"] == theirs["name"] or theirs["name"] == other.rpartition("/")[2]
            if same and names and other not in renamed.values():
                renamed[slug] = other
                break
    return renamed


def _notes(kind: str, slug: str, differs: set[str], before: Workspace, after: Workspace) -> list[str]:
    """What follows from a change, where it is not what everybody expects."""
    notes = []
    if kind == "space":
        if differs & {"blocked_values", "limits.merges", "limits.identifiers", "identifiers"}:
            notes.append(_RULES)
        stores = {secret.mask(space.store) for w in (before, after) for space in w.spaces if space.slug == slug}
        if len(stores) > 1:
            notes.append(_STORE)
    elif kind == "model":
        if "key" in differs:
            notes.append(_EPOCH)
        elif differs & {"sql", "source"}:
            notes.append(_COMPARES)
    elif kind == "profiles sync":
        if any(name.startswith("select.") for name in differs):
            notes.append(_SELECTED)
        was = next(target.space for target in before.profiles_syncs if target.slug == slug)
        if "space" in differs and was is not None:
            notes.append(_OTHERS)
    elif kind == "mapping":
        keys = [{model.slug: model.key for model in workspace.models} for workspace in (before, after)]
        models = [_mapping(workspace, slug).model for workspace in (before, after)]
        if "space" in differs:
            notes.append(_OTHER_SPACE)
        elif "model" in differs and keys[0].get(models[0]) != keys[1].get(models[1]):
            notes.append(_EPOCH)
        else:
            if "model" in differs:
                notes.append(_COMPARES)
            changed = differs & {"action", "trigger"} or any(name.partition(".")[0] == "fields" for name in differs)
            if changed and models[1]:
                notes.append(_RESEND.format(slug))
    return notes


def _mapping(workspace: Workspace, path: str) -> config.Mapping:
    slug, _, name = path.partition("/")
    return next(mapping for mapping in _inside(workspace, slug) if mapping.slug == name)


# --- texts --------------------------------------------------------------------------------------------


def _texts(name: str, old: Any, new: Any, before: Workspace, after: Workspace) -> tuple[str, str, str]:
    """A change as (field, old text, new text), without its secrets."""
    keys = [s.write_key for w in (before, after) for space in w.spaces for s in space.sources if s.write_key]
    keys += [hidden for w in (before, after) for alert in w.alerts for hidden in alerts.secrets(alert)]
    keys += [key for w in (before, after) for key in _keys_of_elsewhere(w)]
    was, is_now = (_hidden(_text(name, value), keys) for value in (old, new))
    if is_now == was:  # only a secret differs
        is_now += " (another)" if is_now == "***" else " (another password)"
    return name, was, is_now


def _keys_of_elsewhere(workspace: Workspace) -> list[str]:
    """The write keys that mappings of remote destinations name themselves."""
    away = (found for found in workspace.destinations if found.endpoint != "local")
    named = {mapping.engage_space for destination in away for mapping in destination.mappings}
    return sorted(key for key in named if key and workspace.profile_source(key) is None)


def _hidden(text: str, keys: Sequence[str]) -> str:
    text = secret.mask(text)
    for key in keys:
        text = text.replace(key, "***")
    return text


def _text(name: str, value: Any) -> str:
    if value is None:
        return "(defaults)" if name == "blocked_values" else NONE
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        items = [_rule(item) if isinstance(item, IdentifierRule) else str(item) for item in value]
        return ", ".join(items) or ("(defaults)" if name == "identifiers" else NONE)
    return canonical.encode(value)


def _rule(rule: IdentifierRule) -> str:
    """`email 5 annually`."""
    key = f" key {rule.key}" if rule.key else ""
    blocked = f" blocked {list(rule.blocked_values)}" if rule.blocked_values is not None else ""
    return f"{rule.type} {rule.limit} {rule.per}{key}{blocked}"


def _pair(old: str, new: str) -> str:
    """`old → new` on one line; of long texts what is around the first difference."""
    old, new = " ".join(old.split()), " ".join(new.split())
    if max(len(old), len(new)) > _WIDTH:
        first = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
        begin = max(0, first - _WIDTH // 3)
        old, new = _cut(old, begin), _cut(new, begin)
    return f"{old} → {new}"


def _cut(text: str, begin: int) -> str:
    part = text[begin : begin + _WIDTH]
    return f"{'…' if begin else ''}{part}{'…' if begin + _WIDTH < len(text) else ''}"
