"""The workspace file as frozen objects; every check of what a user typed (design, section 6).

`read` and `load` give the objects or raise InvalidWorkspace with every problem there is; `outline` gives them
as well as it can. The document is read part by part, then `meaning` checks what the parts say together.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from collections.abc import Mapping as Environment
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onefold import alerts, document, meaning, query, retention, schedule, secret
from onefold.alerts import Alert
from onefold.errors import InvalidWorkspace, NotFound, Problem
from onefold.meaning import REGIONS
from onefold.nearest import nearest
from onefold.report import Part, Report
from onefold.retention import DEFAULTS, Retention
from onefold.schedule import Schedule

WINDOWS = ("ever", "daily", "weekly", "monthly", "annually")
DEFAULT_BLOCKED_VALUES = ("[0-]*", "-1", "null", "anonymous")
MAPPINGS, KEY_LENGTH = 50, 191  # limits: reference, sections 1 and 2
# Source type -> its options, the required one first.
SOURCE_TYPES = {
    "duckdb": ("path",),
    "sqlite": ("path",),
    "files": ("path",),
    "postgres": ("url", "statement_timeout"),
}
# What the path of a profiles sync begins with; no slug of a destination does.
PROFILES = "profiles sync/"
# Type of a profiles sync -> its option.
TARGET_TYPES = {"duckdb": "path", "parquet": "path", "postgres": "url"}
DESTINATION_TYPES = ("segment_profiles",)
# Reference, section 1; what each takes stands in segment_profiles, which is too much to import for a word.
ACTIONS = ("sendIdentify", "sendGroup", "sendTrack", "sendSubscription")
_POSTGRES = re.compile(r"postgres(ql)?://.")


def _keys(words: str, **below: document.Shape) -> document.Shape:
    """The shape of an object: plain keys, then those with a shape of their own."""
    return {**{key: {} for key in words.split()}, **below}


_SCHEDULE = _keys("every at days timezone cron after")
SHAPE = _keys(
    "workspace",
    spaces=_keys(
        "slug name region store blocked_values",
        limits=_keys("merges identifiers"),
        identifiers=_keys("type key limit per blocked_values"),
        sources=_keys("slug name write_key"),
    ),
    sources=_keys("slug name type path url statement_timeout"),
    models=_keys("slug name source key sql sql_file"),
    destinations=_keys(
        "slug name type source enabled",
        settings=_keys("endpoint rate", retry=_keys("days runs")),
        mappings=_keys(
            "slug name model action enabled trigger",
            schedule=_SCHEDULE,
            fields={},
        ),
    ),
    retention=_keys("runs rejected calls"),
    alerts=_keys(
        "slug name mappings",
        when=_keys("run_failed run_partly rejected_above volume_changed nothing_delivered"),
        email=_keys("server from to"),
        webhook=_keys("url secret"),
        slack=_keys("url"),
    ),
    profiles_syncs=_keys(
        "slug name space type path url schema", schedule=_SCHEDULE, select=_keys("tables traits events")
    ),
)


@dataclass(frozen=True)
class IdentifierRule:
    """A kept identifier type: at most `limit` values `per` window; `key` where it stands in traits."""

    type: str
    key: str | None = None
    limit: int = 5
    per: str = "ever"
    blocked_values: tuple[str, ...] | None = None


@dataclass(frozen=True)
class ProfileSource:
    """An input of a space; without a write key one is generated on apply."""

    slug: str
    name: str
    write_key: str | None = None


@dataclass(frozen=True)
class Limits:
    """The safety caps of one profile."""

    merges: int = 100
    identifiers: int = 1000


@dataclass(frozen=True)
class Space:
    """A Profile Space. `blocked_values` None: DEFAULT_BLOCKED_VALUES; `identifiers` stand in rank order."""

    slug: str
    name: str
    region: str = "local"
    store: str = "sqlite"
    blocked_values: tuple[str, ...] | None = None
    limits: Limits = Limits()
    identifiers: tuple[IdentifierRule, ...] = ()
    sources: tuple[ProfileSource, ...] = ()


@dataclass(frozen=True)
class Source:
    """A warehouse. `options` by type, as typed: a path is relative to the workspace folder."""

    slug: str
    name: str
    type: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """One SELECT, without a semicolon, whose rows are told apart by the column `key`."""

    slug: str
    name: str
    source: str
    key: str
    sql: str


@dataclass(frozen=True)
class Mapping:
    """How a model's rows become calls; `schedule` None: synced by hand only. `model` '': live calls are the events."""

    slug: str
    name: str
    model: str
    action: str
    enabled: bool
    trigger: str
    schedule: Schedule | None
    fields: dict[str, Any]

    @property
    def engage_space(self) -> str:
        """The slug or write key of the profile source that the calls go to."""
        return meaning.constant(self.fields.get("engage_space")) or ""


@dataclass(frozen=True)
class Retry:
    """How long calls that a remote endpoint did not take are tried again: so many days, or runs."""

    days: int = 14
    runs: int = 5


@dataclass(frozen=True)
class Destination:
    """`endpoint` is one of REGIONS, or an http(s) URL; `rate` at most so many calls a second to a remote one."""

    slug: str
    name: str
    type: str
    source: str
    enabled: bool
    endpoint: str
    mappings: tuple[Mapping, ...] = ()
    rate: int | None = None
    retry: Retry = Retry()


@dataclass(frozen=True)
class ProfilesSync:
    """A target of Profiles Sync: `to` is its path or URL, as typed; a pattern list of None selects all.

    `space` is the only one that goes there, if one is named. `schedule` None: it is synced by hand only.
    """

    slug: str
    name: str
    type: str
    to: str
    schema: str | None = None
    space: str | None = None
    schedule: Schedule | None = None
    tables: tuple[str, ...] | None = None
    traits: tuple[str, ...] | None = None
    events: tuple[str, ...] | None = None

    @property
    def path(self) -> str:
        """What its runs are listed under."""
        return f"{PROFILES}{self.slug}"


@dataclass(frozen=True)
class Workspace:
    name: str
    spaces: tuple[Space, ...] = ()
    sources: tuple[Source, ...] = ()
    models: tuple[Model, ...] = ()
    destinations: tuple[Destination, ...] = ()
    retention: Retention = DEFAULTS
    alerts: tuple[Alert, ...] = ()
    profiles_syncs: tuple[ProfilesSync, ...] = ()

    def profile_source(self, wanted: str) -> tuple[Space, ProfileSource] | None:
        """The profile source with a slug or write key, and its space."""
        for space in self.spaces:
            for source in space.sources:
                if wanted in (source.slug, source.write_key):
                    return space, source
        return None


@dataclass(frozen=True)
class Document:
    """A valid workspace file; `data` is as typed, `${NAME}` not replaced, each sql_file's text as sql."""

    data: dict[str, Any]
    workspace: Workspace
    warnings: list[str]


# --- in and out ---------------------------------------------------------------------------------------


def read(path: Path, env: Environment[str, str]) -> Document:
    """Read a workspace file. Raises NotFound, or InvalidWorkspace with all problems in file order."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise NotFound(f"there is no {path.name} in {path.parent}; `onefold init` writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidWorkspace([Problem("file", _unreadable(error))], path.name) from error
    return parse(text, path, env)


def parse(text: str, path: Path, env: Environment[str, str]) -> Document:
    """A workspace file's text, as if it stood at `path`. Raises InvalidWorkspace."""
    data, lines = document.parse(text, path.name)
    report = Report(data, lines)
    _inline(data, path.parent, env, report)
    workspace = _checked(data, env, report, path.name, demand=True)
    return Document(data, workspace, [*_warnings(report, path.name), *_ambiguous(report, workspace, path.name)])


def load(data: dict[str, Any], env: Environment[str, str], *, regions: bool = True) -> Workspace:
    """The objects of a document that was read before. A variable that is not set stays `${NAME}`.

    Without `regions` a variable may have made a destination miss its space: its runs fail, and nothing else. Raises
    InvalidWorkspace.
    """
    return _checked(data, env, Report(data), "the applied configuration", demand=False, regions=regions)


def outline(data: dict[str, Any], env: Environment[str, str]) -> Workspace:
    """The objects of a document, right or wrong, with stand-ins for what is wrong: for comparing."""
    report = Report(data)
    return _workspace(report, report.replaced(data, env, demand=False))


def dump(data: dict[str, Any]) -> str:
    """A valid document as the text of a workspace file; a written-out secret becomes a variable."""
    concealed, names = secret.conceal(data)
    comment = f"Secrets are left out of this file. Set these variables: {', '.join(names)}" if names else ""
    return document.write(concealed, SHAPE, comment)


def _checked(
    data: Any, env: Environment[str, str], report: Report, file: str, *, demand: bool, regions: bool = True
) -> Workspace:
    replaced = report.replaced(data, env, demand=demand)
    workspace = _workspace(report, replaced)
    meaning.check(report, workspace, regions=regions)
    if report.problems:
        # Stable, so that problems without lines stay in the order of the checks.
        raise InvalidWorkspace(sorted(report.problems, key=lambda problem: problem.line or 0), file)
    return workspace


def _unreadable(error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"is not UTF-8 text (byte {error.start + 1})"
    return f"cannot be read: {(error.strerror or str(error)).lower()}"


def _inline(data: Any, folder: Path, env: Environment[str, str], report: Report) -> None:
    """Put the text of each model's sql_file in its place, as sql."""
    models = data.get("models") if isinstance(data, dict) else None
    for index, model in enumerate(models if isinstance(models, list) else ()):
        name = model.get("sql_file") if isinstance(model, dict) else None
        if not isinstance(name, str) or model.get("sql") is not None:
            continue
        place = ("models", index, "sql_file")
        name, unset = document.replace(name, env)
        if unset:
            continue
        try:
            text = (folder / name).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError, ValueError) as error:
            why = _unreadable(error) if isinstance(error, OSError | UnicodeDecodeError) else "is no file name"
            report.add(place, f"{report.typed(place)!r} {why}")
            continue
        items = [("sql", text) if key == "sql_file" else (key, value) for key, value in model.items() if key != "sql"]
        model.clear()
        model.update(items)


def _warnings(report: Report, file: str) -> Iterator[str]:
    for holder, key, slug, path in secret.urls(report.raw):
        if secret.literals(holder[key]):
            variable = f"${{{secret.name(slug, 'PASSWORD')}}}"
            sentence = f"the password is written out; write {variable} in its place and set that variable"
            yield f"{file}: {Problem(document.dotted(path), sentence, report.line(path))}"
    for holder, key, slug, kind, path in secret.words(report.raw):
        if secret.literal(holder[key]) and path[0] == "alerts":  # a write key is no secret: browsers know it
            sentence = f"it is written out; write ${{{secret.name(slug, kind)}}} in its place and set that variable"
            yield f"{file}: {Problem(document.dotted(path), sentence, report.line(path))}"


def _ambiguous(report: Report, workspace: Workspace, file: str) -> Iterator[str]:
    """Triggers that the field's engine, and so we, read otherwise than people would."""
    from onefold import trigger

    for at, destination in enumerate(workspace.destinations):
        for index, mapping in enumerate(destination.mappings):
            if trigger.parse(mapping.trigger).ambiguous:
                path = ("destinations", at, "mappings", index, "trigger")
                sentence = (
                    "conditions side by side have one operator, the last one, a parenthesis ends at the first ')', and"
                    " functions of type are passed over; use one operator, functions last in a parenthesis, and"
                    " type = (docs/workspace-file.md, Triggers)"
                )
                yield f"{file}: {Problem(document.dotted(path), sentence, report.line(path))}"


# --- the document, part by part -----------------------------------------------------------------------


def _workspace(report: Report, data: Any) -> Workspace:
    root = report.part({} if data is None else data, (), SHAPE)
    spaces, sources = root.parts("spaces"), root.parts("sources")
    models, destinations, told = root.parts("models"), root.parts("destinations"), root.parts("alerts")
    targets = root.parts("profiles_syncs")
    inputs = [space.parts("sources") for space in spaces]
    # A destination of one of these takes live calls; a warehouse of the same name goes before.
    live = _slugs(part for below in inputs for part in below) - _slugs(sources)
    for parts in (spaces, sources, models, destinations, targets, told, [part for below in inputs for part in below]):
        root.distinct(parts)
    return Workspace(
        name=root.text("workspace"),
        spaces=tuple(_space(part, below) for part, below in zip(spaces, inputs, strict=True)),
        sources=tuple(_source(part) for part in sources),
        models=tuple(_model(part) for part in models),
        destinations=tuple(_destination(part, live) for part in destinations),
        retention=retention.read(root.part("retention")),
        alerts=tuple(alerts.read(part) for part in told),
        profiles_syncs=tuple(map(_profiles_sync, targets)),
    )


def _slugs(parts: Iterable[Part]) -> set[str]:
    return {slug for part in parts if isinstance(slug := part.value.get("slug"), str)}


def _space(part: Part, sources: list[Part]) -> Space:
    slug, name = part.slug(), part.name()
    rules, limits = part.parts("identifiers"), part.part("limits")
    part.distinct(rules, "type")
    store = part.text("store", "sqlite")
    if part.open("store") and store != "sqlite" and not _POSTGRES.match(store):
        part.refuse("store", f"unknown store {part.typed('store')}; write sqlite or a postgresql:// URL")
    return Space(
        slug=slug,
        name=name,
        region=part.word("region", REGIONS, "local"),
        store=store,
        blocked_values=_patterns(part),
        limits=Limits(limits.whole("merges", 100, least=0), limits.whole("identifiers", 1000)),
        identifiers=tuple(_identifier(rule) for rule in rules),
        sources=tuple(ProfileSource(p.slug(), p.name(), p.optional("write_key")) for p in sources),
    )


def _identifier(part: Part) -> IdentifierRule:
    kind = part.text("type")
    if part.open("type") and kind.strip() and not re.fullmatch(r"[a-z0-9_.]+", kind):
        part.refuse("type", f"{part.typed('type')} is no identifier type; use a-z, 0-9, _ and .")
    # Reference, section 5: people and accounts have one id.
    limit = part.whole("limit", 1 if kind in ("user_id", "group_id") else 5)
    per = part.word("per", WINDOWS, "ever")
    return IdentifierRule(kind, part.optional("key"), limit, per, _patterns(part))


def _patterns(part: Part) -> tuple[str, ...] | None:
    """The blocked values; each must be an RE2 pattern."""
    patterns = part.texts("blocked_values")
    for index, pattern in enumerate(part.value["blocked_values"] if patterns else ()):
        if isinstance(pattern, str) and part.at("blocked_values", index) not in part.report.unset:
            why = _pattern(pattern)
            if why is not None:
                typed = part.typed("blocked_values", index)
                part.report.add(part.at("blocked_values", index), f"{typed} is no RE2 pattern: {why}")
    return patterns


def _pattern(pattern: str) -> str | None:
    """Why a text is no RE2 pattern; None if it is one."""
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        why = error.args[0] if error.args else ""
        return why.decode(errors="replace") if isinstance(why, bytes) else str(why)
    return None


def _source(part: Part) -> Source:
    kind = part.word("type", tuple(SOURCE_TYPES))
    options: dict[str, Any] = {}
    if kind in SOURCE_TYPES:
        for key in part.value:
            if key in SHAPE["sources"] and key not in ("slug", "name", "type", *SOURCE_TYPES[kind]):
                accepted = ", ".join(SOURCE_TYPES[kind])
                part.refuse(key, f"a {kind} source takes no {key}; its options: {accepted}")
        required = SOURCE_TYPES[kind][0]
        options[required] = part.text(required)
    if kind == "postgres":
        if part.open("url") and options["url"].strip() and not _POSTGRES.match(options["url"]):
            part.refuse("url", "must be a postgresql:// URL")
        if "statement_timeout" in part:
            options["statement_timeout"] = part.whole("statement_timeout", 1)
    return Source(part.slug(), part.name(), kind, options)


def _profiles_sync(part: Part) -> ProfilesSync:
    kind, to = part.word("type", tuple(TARGET_TYPES)), ""
    if kind in TARGET_TYPES:
        option = TARGET_TYPES[kind]
        for key in {*TARGET_TYPES.values()} - {option}:
            if key in part.value:
                part.refuse(key, f"a {kind} target takes no {key}; it has a {option}")
        to = part.text(option)
        if kind == "postgres" and part.open("url") and to.strip() and not _POSTGRES.match(to):
            part.refuse("url", "must be a postgresql:// URL")
    schema = part.optional("schema")
    if schema is not None and part.open("schema") and not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", schema):
        part.refuse("schema", f"{part.typed('schema')} is no schema; use a-z, 0-9 and _, beginning with a letter")
    said = _schedule(part, "")
    if said is not None and "space" not in part:
        part.refuse("schedule", "whose profiles? name their `space` beside it")
    select = part.part("select")
    return ProfilesSync(
        *(part.slug(), part.name(), kind, to, schema, part.optional("space"), said),
        *(select.texts(key) for key in ("tables", "traits", "events")),
    )


def _schedule(part: Part, destination: str) -> Schedule | None:
    typed = part.value.get("schedule")
    if typed in schedule.MANUAL:
        return None
    if isinstance(typed, str):
        ways = "{every: 1h}, {at: ['09:00']}, {cron: '0 6 * * *'}, {after: DEST/MAPPING}"
        part.refuse("schedule", f"{typed!r} is no schedule; write none, or one of {ways}")
        return None
    return schedule.read(part.part("schedule"), destination)


def _model(part: Part) -> Model:
    key = part.text("key")
    if len(key) > KEY_LENGTH:
        part.refuse("key", f"a column name has at most {KEY_LENGTH} characters, this one {len(key)}")
    sql = part.value.get("sql")
    if "sql" in part and "sql_file" in part:
        part.refuse("sql_file", "give either sql or sql_file")
    elif "sql_file" in part:
        # Its text was put in its place; what is still here could not be, or is not in a file at all.
        if not part.report.about(part.at("sql_file")):
            part.refuse("sql_file", "must be the name of a file beside the workspace file; elsewhere give sql")
    elif not isinstance(sql, str) or part.open("sql"):
        sql = query.read(part, "sql")
    return Model(part.slug(), part.name(), part.text("source"), key, sql if isinstance(sql, str) else "")


def _destination(part: Part, live: Collection[Any]) -> Destination:
    source = part.text("source")
    slug, settings, mappings = part.slug(), part.part("settings"), part.parts("mappings")
    part.distinct(mappings)
    if len(mappings) > MAPPINGS:
        part.refuse("mappings", f"a destination holds at most {MAPPINGS} mappings, this one {len(mappings)}")
    endpoint = settings.text("endpoint", "local")
    if settings.open("endpoint") and endpoint not in REGIONS and not re.match(r"https?://[^/\s]", endpoint):
        hint = nearest(endpoint, REGIONS) or f"; write {', '.join(REGIONS)} or an http(s) URL"
        settings.refuse("endpoint", f"unknown endpoint {settings.typed('endpoint')}{hint}")
    for key in ("rate", "retry"):
        if endpoint == "local" and key in settings:
            settings.refuse(key, f"{key} is for remote endpoints; a local space takes what comes")
    retry = settings.part("retry")
    return Destination(
        slug=slug,
        name=part.name(),
        type=part.word("type", DESTINATION_TYPES),
        source=source,
        enabled=part.flag("enabled", default=True),
        endpoint=endpoint,
        mappings=tuple((_listening if source in live else _mapping)(mapping, slug) for mapping in mappings),
        rate=settings.whole("rate", 1) if "rate" in settings else None,
        retry=Retry(retry.whole("days", 14), retry.whole("runs", 5)),
    )


def _mapping(part: Part, destination: str) -> Mapping:
    from onefold.segment_profiles import RECORDS_TRIGGER

    return Mapping(
        slug=part.slug(),
        name=part.name(),
        model=part.text("model"),
        action=part.word("action", ACTIONS),
        enabled=part.flag("enabled", default=True),
        trigger=part.text("trigger", RECORDS_TRIGGER),
        schedule=_schedule(part, destination),
        fields=part.part("fields").value,
    )


def _listening(part: Part, destination: str) -> Mapping:  # noqa: ARG001 - as _mapping
    """A mapping of an event source: its events are live calls."""
    from onefold.segment_profiles import ACTIONS as KNOWN

    if "model" in part:
        part.refuse("model", "the destination takes live calls, which have no model; remove it")
    if "schedule" in part and part.value["schedule"] not in schedule.MANUAL:
        part.refuse("schedule", "live calls are taken as they come; remove the schedule")
    action = part.word("action", ACTIONS)
    return Mapping(
        slug=part.slug(),
        name=part.name(),
        model="",
        action=action,
        enabled=part.flag("enabled", default=True),
        trigger=part.text("trigger", KNOWN[action].trigger if action in KNOWN else ""),
        schedule=None,
        fields=part.part("fields").value,
    )
