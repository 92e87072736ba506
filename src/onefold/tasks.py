"""What there is to run: a mapping of the configuration becomes a task, and with its warehouse and store a job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onefold import config, remote, runs
from onefold.errors import EndpointError, NotFound
from onefold.nearest import pick
from onefold.remote import REMOTE
from onefold.runs import Task

if TYPE_CHECKING:
    from onefold.stores import Store
    from onefold.sync import Job
    from onefold.warehouses import Warehouse


def task(
    workspace: config.Workspace,
    shown: config.Workspace,
    destination: config.Destination,
    mapping: config.Mapping,
    made: Callable[[Store], Job],
) -> Task:
    """A mapping as something to run; `shown` is the workspace without secrets. Raises NotFound."""
    off = runs.off(destination, mapping)
    return Task(
        path=f"{destination.slug}/{mapping.slug}",
        off=off,
        space="" if off else kept(workspace, destination, mapping),
        job=made,
        recipe={} if off else _recipe(shown, destination.slug, mapping.slug),
    )


def job(
    workspace: config.Workspace,
    destination: config.Destination,
    mapping: config.Mapping,
    warehouse: Warehouse,
    store: Store,
    temp: Path,
) -> Job:
    """What a sync of a mapping needs. Raises NotFound, EndpointError."""
    from onefold import meaning
    from onefold.rules import Rules
    from onefold.sync import Job

    space, source, delivers = config.Space("", ""), destination.slug, None
    for why in meaning.elsewhere(workspace, destination, destination.endpoint):
        raise EndpointError(f"destination {destination.slug}: {why}", code="region_mismatch")
    if destination.endpoint == "local":
        space, through = profile_source(workspace, mapping)
        source = through.slug
    else:
        delivers = remote.of(workspace, destination, mapping)
    return Job(
        path=f"{destination.slug}/{mapping.slug}",
        mapping=mapping,
        model=pick(workspace.models, mapping.model, "model"),
        source=source,
        warehouse=warehouse,
        store=store,
        rules=Rules.of(space),
        temp=temp,
        remote=delivers,
    )


def profile_source(workspace: config.Workspace, mapping: config.Mapping) -> tuple[config.Space, config.ProfileSource]:
    """The space and profile source that a mapping's `engage_space` names. Raises NotFound."""
    found = workspace.profile_source(mapping.engage_space)
    if found is None:
        raise NotFound(f"mapping {mapping.slug}: no profile source {mapping.engage_space!r}; add it to a space")
    return found


def kept(workspace: config.Workspace, destination: config.Destination, mapping: config.Mapping) -> str:
    """Where the state and the runs of a mapping are kept: its space, or a store of its remote destination."""
    if destination.endpoint != "local":
        return f"{REMOTE}{destination.slug}"
    return profile_source(workspace, mapping)[0].slug


def _recipe(shown: config.Workspace, destination: str, slug: str) -> dict[str, Any]:
    """The model and the mapping as they are shown."""
    mapping = pick(pick(shown.destinations, destination, "destination").mappings, slug, "mapping")
    schedule = None if mapping.schedule is None else str(mapping.schedule)
    model = pick(shown.models, mapping.model, "model")
    return {"model": {**vars(model)}, "mapping": {**vars(mapping), "schedule": schedule}}
