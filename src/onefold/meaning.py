"""What the parts of a workspace file mean together: references, mappings, regions, the order of syncs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from onefold import secret
from onefold.document import Path
from onefold.errors import InvalidMapping, InvalidTrigger
from onefold.nearest import nearest
from onefold.report import Report
from onefold.schedule import After

if TYPE_CHECKING:
    from onefold.config import Destination, Mapping, Workspace

REGIONS = ("local", "north_america", "europe")
# Hosts of the remote regions (reference, section 9): a URL that names one is that region.
HOSTS = {"api.segment.io": "north_america", "events.eu1.segmentapis.com": "europe"}


def check(report: Report, workspace: Workspace, *, regions: bool = True) -> None:
    """Everything that takes more than one part of the document, or more than a look, to know."""
    _write_keys(report, workspace)
    sources = [source.slug for source in workspace.sources]
    live = [source.slug for space in workspace.spaces for source in space.sources]
    for index, model in enumerate(workspace.models):
        _refer(report, ("models", index, "source"), "source", model.source, sources)
    for index, destination in enumerate(workspace.destinations):
        place = ("destinations", index)
        _refer(report, (*place, "source"), "source", destination.source, [*sources, *live])
        for number, mapping in enumerate(destination.mappings):
            _mapping_means(report, (*place, "mappings", number), workspace, destination, mapping)
        if regions:
            _region(report, place, workspace, destination)
        if destination.endpoint != "local" and destination.source in live and destination.source not in sources:
            message = "live calls are applied in this workspace; a remote endpoint takes rows of a warehouse"
            report.add((*place, "settings", "endpoint"), message)
    _after(report, workspace)
    mappings = [f"{found.slug}/{mapping.slug}" for found in workspace.destinations for mapping in found.mappings]
    spaces = [space.slug for space in workspace.spaces]
    for index, target in enumerate(workspace.profiles_syncs):
        if target.space is not None:
            _refer(report, ("profiles_syncs", index, "space"), "space", target.space, spaces)
        if isinstance(target.schedule, After):
            _refer(report, ("profiles_syncs", index, "schedule", "after"), "mapping", target.schedule.mapping, mappings)
    for index, alert in enumerate(workspace.alerts):
        for number, path in enumerate(alert.mappings):
            watched = [*mappings, *(target.path for target in workspace.profiles_syncs)]
            _refer(report, ("alerts", index, "mappings", number), "mapping", path, watched)


def _refer(report: Report, path: Path, kind: str, slug: str, slugs: Iterable[str]) -> bool:
    """Whether a reference leads somewhere; if it should and does not, a problem."""
    slugs = list(slugs)
    if slug in slugs:
        return True
    if slug.strip() and path not in report.unset:
        hint = nearest(slug, slugs) or (f"; there are {', '.join(slugs)}" if slugs else "; there is none yet")
        report.add(path, f"no {kind} has the slug {report.typed(path)!r}{hint}")
    return False


def _write_keys(report: Report, workspace: Workspace) -> None:
    """A write key leads to one profile source, and is nobody's slug."""
    taken = {source.slug for space in workspace.spaces for source in space.sources}
    for index, space in enumerate(workspace.spaces):
        for number, source in enumerate(space.sources):
            if source.write_key in taken:
                path = ("spaces", index, "sources", number, "write_key")
                report.add(path, "is the write key or the slug of another profile source")
            elif source.write_key is not None:
                taken.add(source.write_key)


def _mapping_means(
    report: Report, path: Path, workspace: Workspace, destination: Destination, mapping: Mapping
) -> None:
    models = {model.slug: model for model in workspace.models}
    sources = {source.slug for source in workspace.sources}
    listens = destination.source not in sources and workspace.profile_source(destination.source) is not None
    if not listens and _refer(report, (*path, "model"), "model", mapping.model, models):
        source = models[mapping.model].source
        if {source, destination.source} <= sources and source != destination.source:
            wanted = f"destination {destination.slug} takes models of {destination.source}"
            report.add((*path, "model"), f"model {mapping.model} reads source {source}, but {wanted}")
    _trigger(report, (*path, "trigger"), mapping.trigger, listens=listens)
    _engage_space(report, (*path, "fields", "engage_space"), workspace, destination, mapping)
    action = (*path, "action")
    if mapping.action and not report.about(action) and action not in report.unset:
        _fields(report, (*path, "fields"), mapping)


def _fields(report: Report, path: Path, mapping: Mapping) -> None:
    from onefold import segment_profiles

    if any(unset[: len(path)] == path for unset in report.unset):
        return
    try:
        # What engage_space must be is said elsewhere, in better words.
        segment_profiles.validate(mapping.action, {**mapping.fields, "engage_space": "-"})
    except InvalidMapping as error:
        report.add(path, secret.mask(str(error)))


def _trigger(report: Report, path: Path, text: str, *, listens: bool) -> None:
    from onefold import trigger

    if report.about(path) or path in report.unset:
        return
    try:
        parsed = trigger.parse(text)
        events = parsed.events()
    except InvalidTrigger as error:
        report.add(path, str(error))
        return
    if not events and not listens:
        read_so = "; conditions side by side have one operator, the last one" if parsed.ambiguous else ""
        said = 'can never match a row: its type is "track", its event "new", "updated" or "deleted"'
        report.add(path, said + read_so)


def _engage_space(report: Report, path: Path, workspace: Workspace, destination: Destination, mapping: Mapping) -> None:
    slugs = [source.slug for space in workspace.spaces for source in space.sources]
    endpoint = (*path[:2], "settings", "endpoint")
    remote = destination.endpoint != "local" and not report.about(endpoint) and endpoint not in report.unset
    listed = f"; there are {', '.join(slugs)}" if slugs else "; add one to the sources of a space"
    if mapping.fields.get("engage_space") is None:
        report.add(path[:-1], f"engage_space is missing; it names the profile source the calls go to{listed}")
    elif not mapping.engage_space.strip():
        report.add(path, f"must be the slug of a profile source as a constant text{listed}")
    elif (found := workspace.profile_source(mapping.engage_space)) is not None:
        if remote and found[1].write_key is None:
            message = f"profile source {found[1].slug} lives elsewhere: give it the write_key that it has there"
            report.add(path, message)
    else:
        typed = constant(report.typed(path)) or ""
        if remote and not nearest(typed, slugs):
            return  # it is the write key itself
        typed = typed if len(typed) < 32 else f"{typed[:4]}…"  # so long it may be a write key
        if path not in report.unset and (*path, "@literal") not in report.unset:
            report.add(path, f"no profile source has the slug {typed!r}{nearest(typed, slugs) or listed}")


def _region(report: Report, path: Path, workspace: Workspace, destination: Destination) -> None:
    """Calls must go to the region their space lives in; anywhere else takes them and changes nothing.

    A URL says its region if it is a known one. Of any other URL we know only that it is not this workspace.
    """
    path = (*path, "settings", "endpoint")
    if report.about(path) or path in report.unset:
        return
    for message in elsewhere(workspace, destination, str(report.typed(path) or destination.endpoint)):
        report.add(path, message)


def elsewhere(workspace: Workspace, destination: Destination, typed: str) -> Iterator[str]:
    """Why a destination whose endpoint was `typed` so does not reach the spaces of its mappings, in words."""
    endpoint = destination.endpoint
    region = endpoint if endpoint in REGIONS else HOSTS.get(urlsplit(endpoint).hostname or "")
    for slug, theirs in _reached(workspace, destination).items():
        agrees = theirs == region if region else theirs != "local"
        if theirs in REGIONS and not agrees:
            why = f"syncs would succeed and no profile would change; set it to {theirs}"
            yield f"the endpoint is {_said(typed, endpoint)}, but space {slug} lives in {theirs}: {why}"


def _said(typed: str, endpoint: str) -> str:
    """An endpoint as it was typed, and what a variable in it made of it."""
    return secret.mask(typed) + (f" ({secret.mask(endpoint)})" if typed != endpoint else "")


def _reached(workspace: Workspace, destination: Destination) -> dict[str, str]:
    """The spaces a destination's mappings send to -> their regions."""
    found = (workspace.profile_source(mapping.engage_space) for mapping in destination.mappings)
    return {space.slug: space.region for space, _ in filter(None, found)}


def _after(report: Report, workspace: Workspace) -> None:
    """What a mapping waits for exists, and does not wait for it in turn."""
    waits: dict[str, str] = {}
    places: dict[str, Path] = {}
    for index, destination in enumerate(workspace.destinations):
        for number, mapping in enumerate(destination.mappings):
            name = f"{destination.slug}/{mapping.slug}"
            places[name] = ("destinations", index, "mappings", number, "schedule", "after")
            if isinstance(mapping.schedule, After):
                waits[name] = mapping.schedule.mapping
    for name, other in waits.items():
        if places[name] in report.unset:
            continue
        if not _refer(report, places[name], "mapping", other, places):
            continue
        seen = [name]
        while other in waits and other not in seen:
            seen.append(other)
            other = waits[other]
        if other == name:
            report.add(places[name], f"waits for itself: {' after '.join([*seen, name])}")


def constant(value: Any) -> str | None:
    """The text of a constant field, raw or `{'@literal': …}`; None for anything else."""
    if isinstance(value, dict) and set(value) == {"@literal"}:
        value = value["@literal"]
    return value if isinstance(value, str) else None
