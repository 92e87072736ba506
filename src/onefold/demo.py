"""The demo: a sample warehouse of five systems, synced, changed, synced again, and one profile explained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from onefold import starter, workspace

ADA = "email:ada@example.com"
SPACE = "production"


def run(folder: Path, rows: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Play the demo in an empty folder and say what happens. Returns the explained profile.

    Raises OnefoldError, also when the folder holds a workspace already.
    """
    say(f"A shop, its app, its CRM and its marketing tool, {rows:,} people: {folder}/warehouse.duckdb")
    starter.write(folder, rows)
    space = workspace.open(folder)
    space.apply()
    say("\nFirst sync: everything is new.")
    for line in _sync(space):
        say(line)
    before = space.profile(SPACE, ADA)
    say("\nA day later: Ada signs in to the app, some customers move, one is deleted. Sync again.")
    starter.run(folder / "warehouse.duckdb", "changes.sql")
    for line in _sync(space):
        say(line)
    after = space.explain(SPACE, ADA)
    space.close()
    say("")
    for line in story(before, after):
        say(line)
    return after


def _sync(space: workspace.Workspace) -> Iterator[str]:
    names = f"{'read':>8}{'changed':>9}{'sent':>8}{'rejected':>9}{'created':>9}{'merges':>8}{'seconds':>9}"
    yield f"  {'mapping':22}{names}"
    for outcome in space.sync():
        c = outcome.counts
        changed = c["added"] + c["updated"] + c["deleted"]
        yield (
            f"  {outcome.mapping:22}{c['extracted']:>8,}{changed:>9,}{c['sent']:>8,}{c['rejected']:>9,}"
            f"{c['profiles_created']:>9,}{c['merges']:>8,}{outcome.seconds:>9.2f}"
        )


def story(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """How one profile came together, from what it was and what it is."""
    yield f"Ada before: {len(before['external_ids'])} identifiers, {len(before['traits'])} traits."
    yield f"Ada now:    {len(after['external_ids'])} identifiers, {len(after['traits'])} traits. Why:"
    for item in after["why"]["merges"]:
        yield (
            f"  {item['joined'][1][:12]}… became part of {item['joined'][0][:12]}…:"
            f" one {item['call']} call of {item['mapping']} carried identifiers of both ({item['timestamp']})"
        )
    by: dict[str, list[str]] = {}
    for item in after["why"]["traits"]:
        by.setdefault(item["mapping"] or item["source"], []).append(item["name"])
    for mapping, names in by.items():
        yield f"  {mapping} said {', '.join(names)}"
    for item in after["subscriptions"]:
        groups = "".join(f", {group['name']} {group['status']}" for group in item.get("groups", ()))
        yield f"  {item['type']} {item['key']} is {item['status']}{groups}"
    for item in after["accounts"]:
        yield f"  member of the account {', '.join(found['id'] for found in item['external_ids'])}"
