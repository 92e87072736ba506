"""The workspace: open a folder, plan, apply, export, sync, read. What the CLI, the web app and the API call."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from copy import deepcopy
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onefold import config, remote, runs, tasks
from onefold.errors import (
    Conflict,
    Disabled,
    InvalidWorkspace,
    LoginFailed,
    NotFound,
    StoreError,
    TargetError,
    WarehouseError,
)
from onefold.nearest import pick as pick
from onefold.remote import REMOTE, UNSET, label
from onefold.roles import ADMIN, EDITOR, VIEWER, Who, here, needs
from onefold.runs import LISTENS, REPLAY, RESEND, Began, Outcome, Runs, Task, Work, now

if TYPE_CHECKING:
    from onefold.calls import Arrival
    from onefold.cancel import Cancel
    from onefold.catalog import Catalog
    from onefold.debugger import Cursor
    from onefold.events import Selected
    from onefold.plan import Change
    from onefold.profiles import Search
    from onefold.profiles_sync import Selection, Synced
    from onefold.profiles_sync.check import Difference
    from onefold.profiles_sync.targets import Target
    from onefold.rules import Rules
    from onefold.sessions import Session, Sessions
    from onefold.stores import Store
    from onefold.sync import Job, Progress
    from onefold.warehouses import Table, Warehouse

FILE = "onefold.yaml"


def open(path: str | os.PathLike[str], env: Mapping[str, str] | None = None) -> Workspace:  # noqa: A001 - onefold.open is the contract
    """Open a workspace folder, or the folder of a given onefold.yaml. Nothing is read or written yet."""
    folder = Path(path)
    return Workspace(folder.parent if folder.name == FILE else folder, os.environ if env is None else env)


class Workspace:
    """One workspace folder: the file as written, what was applied, and the spaces."""

    def __init__(self, folder: Path, env: Mapping[str, str], who: Who | None = None) -> None:
        """`who` asks: they may do what their role allows. Nobody else than the command line does without."""
        self.folder = folder
        self._env = env
        self.closing = ExitStack()
        self._who = who

    def again(self, who: Who | None = None) -> Workspace:
        """The same folder, read anew, for `who` (as before without); it shares the catalog, so close only this one."""
        found = Workspace(self.folder, self._env, who or self._who)
        found.__dict__ |= {"catalog": self.catalog, "sessions": self.sessions}
        return found

    @property
    def who(self) -> Who:
        if self._who is None:
            self._who = here()
        return self._who

    def close(self) -> None:
        """Close the catalog, and first what was opened for as long as the workspace is."""
        self.closing.close()
        if "catalog" in self.__dict__:
            self.catalog.close()

    # --- configuration --------------------------------------------------------------------------------

    @property
    def home(self) -> Path:
        return self.folder / ".onefold"

    @cached_property
    def env(self) -> Mapping[str, str]:
        """The environment, and the secrets that were typed into the app."""
        from onefold import variables

        return {**variables.read(self.home), **self._env}

    @cached_property
    def catalog(self) -> Catalog:
        from onefold.catalog import Catalog

        elsewhere = self.env.get("ONEFOLD_CATALOG")
        if not elsewhere and not (self.home / "catalog.db").exists() and not (self.folder / FILE).exists():
            raise NotFound(f"{self.folder} is not a workspace: it has no {FILE}; `onefold init` writes one")
        self.home.mkdir(mode=0o700, exist_ok=True)  # it holds write keys and the spaces' secrets
        return Catalog(elsewhere or self.home / "catalog.db")

    @cached_property
    def document(self) -> config.Document:
        """The workspace file. Raises InvalidWorkspace."""
        return config.read(self.folder / FILE, self.env)

    @cached_property
    def applied(self) -> config.Workspace:
        """What was applied last. Raises NotFound before the first apply."""
        data = self.catalog.configuration()
        if data is None:
            raise NotFound("nothing is applied yet; run `onefold apply` first")
        return config.load(data, self.env, regions=False)

    def configuration(self) -> config.Workspace:
        """What was applied last, to be shown: secrets and variables stay `${NAME}`. Raises NotFound."""
        from onefold import secret

        data = self.catalog.configuration()
        if data is None:
            raise NotFound("nothing is applied yet; run `onefold apply` first")
        return config.load(secret.conceal(data)[0], {})

    @property
    def differs(self) -> bool:
        """Whether the file says something else than what was applied, or cannot be read."""
        if not (self.folder / FILE).exists():
            return False
        try:
            return bool(self.plan())
        except InvalidWorkspace:
            return True

    def plan(self) -> list[Change]:
        """What `apply` would change. Raises InvalidWorkspace."""
        from onefold.plan import plan

        return plan(self.catalog.configuration(), self.document.data, self.env)

    @needs(EDITOR)
    def apply(self) -> list[Change]:
        """Make the file the configuration, open its spaces, and give every profile source a write key."""
        return self._apply("apply", FILE)

    def _apply(self, action: str, subject: str) -> list[Change]:
        from onefold import scheduler
        from onefold.plan import lines

        changes = self.plan()
        workspace = self.document.workspace
        for space in workspace.spaces:
            self.space(space.slug, workspace).close()
        if self.document.data != self.catalog.configuration():
            keys = {source.slug: source.write_key for space in workspace.spaces for source in space.sources}
            self.catalog.configure(self.document.data, now(), keys)
            self.__dict__.pop("applied", None)
            scheduler.entries(self, now())  # schedules that are new count from now
            self.note(action, subject, lines(changes))
        return changes

    def draft(self, kind: str, slug: str, found: dict[str, Any]) -> Workspace:
        """This folder as if an object had been saved so: to try it first. As `save`. Raises InvalidWorkspace."""
        from onefold import editing

        data = deepcopy(self.document.data)
        items, at, own, _ = editing.place(data, kind, slug)
        made = {"slug": own, **found}
        items[len(items) if at is None else at : len(items) if at is None else at + 1] = [made]
        drafted = self.again()
        drafted.__dict__["document"] = config.Document(data, config.load(data, self.env), [])
        return drafted

    def editable(self, kind: str, slug: str) -> dict[str, Any]:
        """An object of the file as typed, secrets hidden, and its version, for `save`: {object, version}.

        `kind`: space, source, model, destination, mapping; the slug of a mapping is DEST/MAPPING. Raises NotFound.
        """
        from onefold import editing

        return editing.read(self.folder / FILE, kind, slug)

    @needs(EDITOR)
    def save(self, kind: str, slug: str, found: dict[str, Any] | None, version: str | None = None) -> dict[str, Any]:
        """Put an object into the file, or with None take it out, and apply: all or nothing. {version, changes}.

        `found` is as in the file. `version` is the one it was edited from, '' for a new one, None to overwrite. A
        destination without `mappings` keeps those it has. Raises InvalidObject with the problems at its fields;
        Conflict if the file has changes that are not applied, or somebody else saved the object; NotFound.
        """
        from onefold import editing

        with editing.alone(self.home):
            self._forget()
            if self.catalog.configuration() is not None and self.plan():
                why = f"{FILE} has changes that are not applied; apply or undo them first, then save again"
                raise Conflict(why, code="unapplied_changes")
            try:
                changes, fresh = editing.save(
                    self.folder / FILE, self._env, kind, slug, found, version, lambda: self._saved(kind, slug)
                )
            finally:
                self._forget()
        return {"version": fresh, "changes": changes}

    def _saved(self, kind: str, slug: str) -> list[Change]:
        self._forget()
        return self._apply("save", f"{kind} {slug}")

    def _forget(self) -> None:
        """Read the file, the secrets and what is applied anew when they are next asked for."""
        for name in ("document", "env", "applied"):
            self.__dict__.pop(name, None)

    @needs(EDITOR)
    def enable(self, kind: str, slug: str, *, on: bool) -> dict[str, Any]:
        """Switch a destination or a mapping on or off; as `save`."""
        found = self.editable(kind, slug)
        return self.save(kind, slug, {**found["object"], "enabled": on}, found["version"])

    def export(self) -> str:
        """The applied configuration as a workspace file; secrets stay `${NAME}`."""
        data = self.catalog.configuration()
        if data is None:
            raise NotFound("nothing is applied yet; run `onefold apply` first")
        return config.dump(data)

    def begin(self) -> None:
        """Make a folder that has no workspace file an empty workspace. Raises OnefoldError."""
        file = self.folder / FILE
        if file.exists() or self.env.get("ONEFOLD_CATALOG") or (self.home / "catalog.db").exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        slug = re.sub(r"[^a-z0-9]+", "-", self.folder.resolve().name.lower()).strip("-")
        file.write_text(f"# A Onefold workspace.\nworkspace: {slug or 'workspace'}\n")
        self.apply()

    # --- sources and models ---------------------------------------------------------------------------

    def warehouse(self, slug: str, workspace: config.Workspace | None = None) -> Warehouse:
        """The warehouse of a source. Raises NotFound, WarehouseError."""
        from onefold import warehouses

        workspace = workspace or self.document.workspace
        source = pick(workspace.sources, slug, "source")
        for option in source.options.values():
            unset = UNSET.search(option) if isinstance(option, str) else None
            if unset:
                raise WarehouseError(
                    f"source {slug} needs the environment variable {unset[1]}, which is not set",
                    code="missing_variable",
                )
        return warehouses.open(source.type, source.options, self.folder, self.home / "tmp")

    def test_source(self, slug: str) -> list[Table]:
        """The tables of a source in the file: it can be reached and read. Raises WarehouseError."""
        return self.warehouse(slug).tables()

    def preview_model(
        self, slug: str, limit: int = 10, *, keyed: bool = True
    ) -> tuple[list[str], list[dict[str, Any]]]:
        """The columns and first rows of a model in the file, as mappings see them. Raises WarehouseError.

        With `keyed` its key must be a column.
        """
        from onefold import diff

        workspace = self.document.workspace
        model = pick(workspace.models, slug, "model")
        with diff.staging(self.home / "tmp") as staging:
            with self.warehouse(model.source).read(model.sql, limit=limit) as reader:
                staging.load(reader, model.key if keyed else reader.schema.names[0])
            return staging.columns, list(staging.records(limit))

    def examine_model(self, slug: str) -> dict[str, Any]:
        """Rows, columns and key of a model in the file, as `examine.examine`. Raises WarehouseError."""
        from onefold.examine import examine

        model = pick(self.document.workspace.models, slug, "model")
        return examine(self.warehouse(model.source), model)

    def model_values(self, slug: str, column: str) -> dict[str, Any]:
        """How often the values of a column of a model in the file stand, as `examine.values`. Raises WarehouseError."""
        from onefold.examine import values

        model = pick(self.document.workspace.models, slug, "model")
        return values(self.warehouse(model.source), model, column)

    # --- spaces ---------------------------------------------------------------------------------------

    def space(self, slug: str, workspace: config.Workspace | None = None) -> Store:
        """Open the store of a space, or of a remote destination (REMOTE and its slug). Raises NotFound, StoreError."""
        from onefold import stores

        if slug.startswith(REMOTE):
            return remote.store(slug, self.home, self.env.get("ONEFOLD_CATALOG"))
        space = pick((workspace or self.applied).spaces, slug, "space")
        unset = UNSET.search(space.store)
        if unset:
            raise StoreError(
                f"space {slug} needs the environment variable {unset[1]}, which is not set", code="missing_variable"
            )
        return stores.open(space.store, self.home / "spaces" / f"{slug}.db")

    def kept(self) -> list[str]:
        """The names of all stores, for `space`: the spaces, and remote destinations of which something is kept.

        Also of those that are configured no more.
        """
        spaces = [space.slug for space in self.applied.spaces]
        away = {*self.catalog.destinations(), *(file.stem for file in (self.home / REMOTE).glob("*.db"))}
        return [*spaces, *(f"{REMOTE}{slug}" for slug in sorted(away))]

    def rules(self, slug: str, workspace: config.Workspace | None = None) -> Rules:
        from onefold.rules import Rules

        return Rules.of(pick((workspace or self.applied).spaces, slug, "space"))

    def size(self, space: str) -> int:
        """How many profiles a space has, people and accounts. Raises NotFound, StoreError."""
        with self.space(space) as store:
            merged = store.rows("select count(*) as merged from merged where segment <> profile")[0]["merged"]
            return int(store.counters()["segment"]) - 1 - int(merged)

    def profile(self, space: str, identifier: str, *, accounts: bool = False) -> dict[str, Any]:
        """A profile by `type:value`. Raises NotFound."""
        return self._profile(space, identifier, accounts=accounts, why=False)

    def explain(self, space: str, identifier: str, *, accounts: bool = False) -> dict[str, Any]:
        """A profile with `why`: the call, run and source behind each identifier, trait and merge."""
        return self._profile(space, identifier, accounts=accounts, why=True)

    def _profile(self, space: str, identifier: str, *, accounts: bool, why: bool) -> dict[str, Any]:
        from onefold import profiles

        kind, colon, value = identifier.partition(":")
        if not colon or not value:
            raise NotFound(f"{identifier!r} is not TYPE:VALUE, such as email:ada@example.com")
        with self.space(space) as store:
            collection = profiles.collection_of(kind, accounts=accounts)
            view = profiles.read(store, collection, kind, value, self.rules(space))
            if view is None:
                raise NotFound(f"no profile in space {space} has the identifier {identifier}")
            if why and (profile := profiles.find(store, collection, kind, value)) is not None:
                view["why"] = profiles.why(store, profile, self.rules(space))
            return view

    def history(
        self, space: str, segment_id: str, limit: int = 100, before: tuple[int, int] | None = None
    ) -> dict[str, Any]:
        """The newest calls of a profile, as history.read. Raises NotFound."""
        from onefold import history, profiles, rules

        collection = rules.ACCOUNTS if segment_id.startswith("grp_") else rules.USERS
        with self.space(space) as store:
            profile = profiles.find(store, collection, "segment_id", segment_id)
            if profile is None:
                raise NotFound(f"no profile in space {space} has the segment_id {segment_id}")
            return history.read(store, profile, limit, before)

    def profiles(self, space: str, *, accounts: bool = False, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """All profiles of a space, oldest first."""
        from onefold import profiles, rules

        collection = rules.ACCOUNTS if accounts else rules.USERS
        with self.space(space) as store:
            yield from profiles.each(store, collection, self.rules(space), limit)

    def search(
        self, space: str, text: str, limit: int = 20, seconds: float | None = None, *, parts: bool = False
    ) -> Search:
        """Profiles that have an identifier; where there is none, those of which one contains it, as profiles.search."""
        from onefold import profiles

        with self.space(space) as store:
            took = profiles.SECONDS if seconds is None else seconds
            return profiles.search(store, text, self.rules(space), limit, took, parts=parts)

    # --- users, sessions and the audit log ------------------------------------------------------------

    @cached_property
    def sessions(self) -> Sessions:
        """What a server keeps of those who log in; shared with `again`."""
        from onefold.sessions import Sessions

        return Sessions(self.catalog)

    def login(self, name: str, password: str, address: str) -> Session:
        """Begin a session. Raises LoginFailed, TooManyAttempts."""
        from onefold import users

        try:
            session = self.sessions.login(name, password, address, now())
        except LoginFailed:
            known = users.find(self.catalog, name)  # what else was typed may be a password
            self.again(Who(known.name if known else "(nobody)", VIEWER, address=address)).note("login refused", "", [])
            raise
        self.again(session.who).note("login", session.who.name, [])
        return session

    def session(self, token: str, address: str = "") -> Session | None:
        """The session of a cookie's value, unless it has ended."""
        return self.sessions.find(token, address, now())

    def logout(self) -> None:
        """End the session that asks."""
        self.sessions.end(self.who.session)
        self.note("logout", self.who.name, [])

    def setup(self, token: str, name: str, password: str, address: str) -> Session:
        """Make the first user, an admin, by the one-time link of `serve`, and log in. Raises OnefoldError."""
        session = self.sessions.accept(token, name, password, address, now())
        self.again(session.who).note("user create", session.who.name, ["role: admin", "by the one-time link"])
        return session

    @needs(ADMIN)
    def users(self) -> list[dict[str, Any]]:
        """All users, oldest first: id, name, role, created_at, used_at (the last login)."""
        from onefold import users

        return [user.view() for user in users.every(self.catalog)]

    @needs(ADMIN)
    def create_user(self, name: str, role: str, password: str) -> dict[str, Any]:
        """Raises OnefoldError."""
        from onefold import users

        user = users.create(self.catalog, name, role, password, now())
        self.note("user create", user.name, [f"role: {role}"])
        return user.view()

    @needs(ADMIN)
    def change_user(self, name: str, *, role: str | None = None, password: str | None = None) -> None:
        """Another role or password; another password ends the user's sessions. Raises NotFound, OnefoldError."""
        from onefold import users

        user = users.change(self.catalog, name, role=role, password=password)
        lines = [f"role: {user.role} → {role}"] if role not in (None, user.role) else []
        self.note("user change", user.name, [*lines, *(["another password"] if password is not None else [])])

    @needs(ADMIN)
    def remove_user(self, name: str) -> None:
        """Remove a user and end their sessions. Raises NotFound, OnefoldError."""
        from onefold import users

        self.note("user remove", users.remove(self.catalog, name).name, [])

    def change_password(self, old: str, new: str) -> None:
        """Another password for who asks; ends their other sessions. Raises OnefoldError, LoginFailed among them."""
        self.sessions.change_password(self.who, old, new)
        self.note("user change", self.who.name, ["another password"])

    @needs(ADMIN)
    def audit(self, limit: int = 100, before: int | None = None, text: str = "") -> list[dict[str, Any]]:
        """Who changed what, newest first: id, at, who, kind, address, action, object, lines.

        Older than the line `before`; with `text` in who, action or object.
        """
        from onefold import audit

        return audit.read(self.catalog, limit, before, text)

    def note(self, action: str, subject: str, lines: Sequence[str]) -> None:
        """Write into the audit log that who asks did this to `subject`; never with secrets."""
        from onefold import audit

        audit.write(self.catalog, self.who, action, subject, lines, now())

    # --- access tokens --------------------------------------------------------------------------------

    @needs(ADMIN)
    def create_token(self, space: str | None, name: str = "", rate: int | None = None) -> dict[str, Any]:
        """An access token of a space, or without one the admin token; `token` is shown here only. Raises NotFound.

        `rate`: requests a second.
        """
        from onefold import tokens

        if space is not None:
            pick(self.applied.spaces, space, "space")
        text, token = tokens.issue(self.catalog, space, name, tokens.RATE if rate is None else rate, now())
        self.note("token create", token.id, [f"opens: {space or 'the configuration API'}", f"name: {name}"])
        return {**tokens.view(token), "token": text}

    @needs(ADMIN)
    def tokens(self) -> list[dict[str, Any]]:
        """All access tokens, oldest first, revoked ones too."""
        from onefold import tokens

        return [tokens.view(token) for token in self.catalog.tokens()]

    @needs(ADMIN)
    def revoke_token(self, token_id: str) -> None:
        """Make a token worthless, within a second also on a running server. Raises NotFound."""
        self.catalog.revoke_token(token_id, now())
        self.note("token revoke", token_id, [])

    # --- live -----------------------------------------------------------------------------------------

    @needs(ADMIN)
    def write_keys(self) -> list[dict[str, str]]:
        """The profile sources with their spaces and write keys. Raises NotFound."""
        keys = self.catalog.write_keys()
        return [
            {"source": source.slug, "name": source.name, "space": space.slug, "write_key": keys[source.slug]}
            for space in self.applied.spaces
            for source in space.sources
        ]

    def debug(self, source: str, after: Cursor | None = None, limit: int = 500) -> tuple[list[dict[str, Any]], Cursor]:
        """The newest calls of a profile source, oldest first, and where to go on. Raises NotFound."""
        from onefold import debugger
        from onefold.inbox import FILE, Inbox

        pick([source for space in self.applied.spaces for source in space.sources], source, "profile source")
        reached = self.applied.profile_source(source)
        assert reached is not None  # as it was picked
        mappings = [path for path, through in self._through().items() if through == source]
        with self.space(reached[0].slug) as store, closing(Inbox(self.home / FILE)) as inbox:
            return debugger.read(store, inbox, source, mappings, after, limit)

    @needs(EDITOR)
    def resend_calls(self, source: str, *, call: str | None = None, code: str | None = None) -> int:
        """Put rejected live calls of a profile source into the inbox again: one, all with a code, or all.

        They keep their time and messageId. Returns how many; a server, running or started later, applies them. Raises
        NotFound.
        """
        from onefold import inbox

        pick([source for space in self.applied.spaces for source in space.sources], source, "profile source")
        at = inbox.place(call) if call is not None else None
        if call is not None and at is None:
            raise NotFound(f"{call!r} is not the id of a rejected call; `onefold debug {source}` shows them")
        taking = self._taking(source)
        with closing(inbox.Inbox(self.home / inbox.FILE)) as found:
            sent = found.resend(source, taking, at, code)
        if at is not None and not sent:
            why = "it was sent again already, is no longer kept, or its request is still being worked on"
            if at[2] and at[2] not in taking:
                why = f"mapping {at[2]} takes no calls of it"
            raise NotFound(f"source {source} has no rejected call {call} to send again: {why}")
        if sent:
            self.note("debug resend", source, [f"{sent:,} calls"])
        return sent

    def _taking(self, source: str) -> list[str]:
        """The mappings, DEST/MAPPING, that take the live calls of a profile source."""
        return [
            f"{destination.slug}/{mapping.slug}"
            for destination, mapping in self.mappings()
            if destination.source == source and not mapping.model and mapping.enabled and destination.enabled
        ]

    def _tried(
        self, source: str, selected: Selected, given: dict[str, Any] | None, key: str | None
    ) -> tuple[dict[str, Any], Arrival]:
        """The event that a mapping of a live source is tried on, and how the call made of it comes."""
        from onefold import events, times
        from onefold.calls import Arrival

        if key is not None:
            why = f"mapping {selected.path} takes live calls; try one with --event, not --key"
            raise Disabled(why, code="other_kind")
        if given is not None:
            events.check(given)
            name = given.get("messageId")
            arrival = Arrival(source, now(), name if isinstance(name, str) and name else "test")
            return events.event(given, arrival), selected.arrival(arrival)
        calls, _ = self.debug(source)
        made = {events.message_id(path, call["message_id"]) for path in self._taking(source) for call in calls}
        found = []
        for call in reversed(calls):
            if call["status"] == "accepted" and call["mapping"] is None and call["message_id"] not in made:
                arrival = Arrival(source, times.parse(call["received_at"]) or now(), call["message_id"])
                found.append((events.event(call["call"], arrival), selected.arrival(arrival)))
        if not found:
            raise NotFound(f"source {source} has no calls yet; send one, or give one with --event FILE")
        return next((item for item in found if selected.shape.trigger.matches(item[0])), found[0])

    def usage(self) -> list[dict[str, Any]]:
        """API calls, tracked users and more per month and profile source, newest month first."""
        from onefold import usage
        from onefold.inbox import FILE, Inbox

        sent = self.catalog.sent()
        synced = [(f"{datetime.fromtimestamp(at / 1e6, UTC):%Y-%m}", path, calls) for path, at, calls in sent if calls]
        with closing(Inbox(self.home / FILE)) as inbox:
            return usage.read(inbox, self._through(), synced)

    def storage(self) -> list[dict[str, Any]]:
        """What takes how much: `where`, `what`, rows, and bytes where they are known. Raises OnefoldError."""
        from onefold import storage

        return list(storage.read(self))

    def _through(self) -> dict[str, str]:
        """DEST/MAPPING -> the profile source it sends through."""
        return {
            f"{destination.slug}/{mapping.slug}": tasks.profile_source(self.applied, mapping)[1].slug
            for destination, mapping in self.mappings()
            if destination.endpoint == "local"
        }

    # --- mappings -------------------------------------------------------------------------------------

    def mappings(self, selector: str | None = None) -> list[tuple[config.Destination, config.Mapping]]:
        """The applied mappings that DEST or DEST/MAPPING selects; all without one. Raises NotFound."""
        destinations: Sequence[config.Destination] = self.applied.destinations
        slug, _, name = (selector or "").partition("/")
        if slug:
            destinations = [pick(destinations, slug, "destination")]
        if name:
            return [(destinations[0], pick(destinations[0].mappings, name, "mapping"))]
        return [(destination, mapping) for destination in destinations for mapping in destination.mappings]

    def job(
        self,
        destination: config.Destination,
        mapping: config.Mapping,
        workspace: config.Workspace,
        store: Store,
    ) -> Job:
        """What a sync of a mapping needs. Raises NotFound, EndpointError."""
        source = pick(workspace.models, mapping.model, "model").source
        warehouse = self.warehouse(source, workspace)
        return tasks.job(workspace, destination, mapping, warehouse, store, self.home / "tmp")

    def test_mapping(
        self, selector: str, key: str | None = None, event: dict[str, Any] | None = None, *, effects: bool = True
    ) -> dict[str, Any]:
        """What a mapping in the file makes of one row, or of one live call: the call, and what it would do to profiles.

        A mapping of a live source is tried on `event`, a call as an SDK sends it; without one on the newest call of
        the source that its trigger selects. What it would do waits for whoever writes to the space; without `effects`
        that is left out. Raises NotFound, RowRejected.
        """
        from onefold import preview
        from onefold.events import Selected

        slug, _, name = selector.partition("/")
        workspace = self.document.workspace
        destination = pick(workspace.destinations, slug, "destination")
        mapping = pick(destination.mappings, name, "mapping")
        if not mapping.model:
            space, source = tasks.profile_source(workspace, mapping)
            selected = Selected(selector, mapping, source.slug)
            said, arrival = self._tried(destination.source, selected, event, key)
            with self.space(space.slug, workspace) as store:
                return preview.event(said, selected.shape, arrival, store, self.rules(space.slug, workspace))
        if event is not None:
            raise Disabled(f"mapping {selector} reads rows; try one with --key, not --event", code="other_kind")
        with self.space(tasks.kept(workspace, destination, mapping), workspace) as store:
            return preview.mapping(self.job(destination, mapping, workspace, store), key, effects=effects)

    def test_rows(self, selector: str, limit: int = 100) -> dict[str, Any]:
        """How the first rows of a mapping in the file fare, as preview.several. Raises NotFound, WarehouseError."""
        from onefold import preview

        slug, _, name = selector.partition("/")
        workspace = self.document.workspace
        destination = pick(workspace.destinations, slug, "destination")
        mapping = pick(destination.mappings, name, "mapping")
        with self.space(tasks.kept(workspace, destination, mapping), workspace) as store:
            return preview.several(self.job(destination, mapping, workspace, store), limit)

    @needs(EDITOR)
    def sync(
        self,
        selector: str | None = None,
        *,
        full: bool = False,
        dry_run: bool = False,
        allow_deletes: bool = False,
        progress: Callable[[str], Progress] | None = None,
        effect: Callable[[dict[str, Any]], None] | None = None,
        started_by: str = "cli",
        run_id: str | None = None,
        cancel: Cancel | None = None,
    ) -> Iterator[Outcome]:
        """Sync the applied mappings that are selected, one after another; a failed one stops no other.

        `progress` gives each mapping a function to report to; `effect` is told, by name, of the first profiles that
        each chunk creates, updates and merges, and of the first rows that it rejects. A dry run takes everything
        back at its end, so that each mapping sees what those before it would have done. `run_id` is that of a run
        which was announced, where one mapping is selected. `cancel` stops them from another thread.
        """
        outcomes = self._runs.sync(
            self._tasks(selector),
            progress=progress,
            effect=effect,
            began=Began(started_by, self.who.name),
            run_id=run_id,
            cancel=cancel,
            full=full,
            dry_run=dry_run,
            allow_deletes=allow_deletes,
        )
        return outcomes if dry_run or not self.applied.alerts else self._telling(outcomes)

    def _telling(self, outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
        """The same outcomes; who is to hear of one is told."""
        from onefold.notify import Notifier

        with closing(Notifier(self)) as notifier:
            for outcome in outcomes:
                if outcome.run_id is not None:
                    notifier.ended(outcome.run_id)
                yield outcome

    @needs(EDITOR)
    def start(self, selector: str, *, full: bool = False, allow_deletes: bool = False, started_by: str) -> str:
        """Start a sync of one mapping, DEST/MAPPING, in a process of its own; its run_id. Raises NotFound, Disabled.

        So is a profiles sync that names its space, by its path.
        """
        if selector.startswith(config.PROFILES):
            target = pick(self.applied.profiles_syncs, selector.removeprefix(config.PROFILES), "profiles sync")
            task, schedule = self._writing(target.slug, target.space or ""), target.schedule
            words = ["profiles-sync", task.space, target.slug, *["--full"] * full]
        else:
            (task,) = self._tasks(selector)
            schedule = self.mappings(selector)[0][1].schedule
            words = ["sync", task.path, *["--full"] * full, *["--allow-deletes"] * allow_deletes]
        scheduled = started_by == "schedule"
        who = str(schedule) if scheduled else self.who.name
        run_id = self._runs.begin(task, words, self.folder, Began(started_by, who))
        if not scheduled:
            self.note("sync", selector, [f"run {run_id}", *(["full"] * full), *(["deletes allowed"] * allow_deletes)])
        return run_id

    @needs(EDITOR)
    def cancel(self, run_id: str) -> dict[str, Any]:
        """Ask a run to stop, wherever it runs; the run. It looks twice a second. Raises NotFound, NotRunning."""
        run = self._runs.cancel(run_id, self.who.name)
        self.note("cancel", run["mapping"], [f"run {run['run_id']}"])
        return run

    def _tasks(self, selector: str | None) -> list[Task]:
        """The selected mappings, to be synced."""
        shown = self.configuration()
        return [self._task(destination, mapping, shown) for destination, mapping in self.mappings(selector)]

    def _task(self, destination: config.Destination, mapping: config.Mapping, shown: config.Workspace) -> Task:
        job = partial(self.job, destination, mapping, self.applied)
        return tasks.task(self.applied, shown, destination, mapping, job)

    # --- profiles sync --------------------------------------------------------------------------------

    @needs(ADMIN)
    def sync_profiles(
        self,
        space: str,
        to: str,
        *,
        full: bool = False,
        progress: Progress = lambda *_: None,
        run_id: str | None = None,
        cancel: Cancel | None = None,
    ) -> tuple[str | None, Synced]:
        """Bring the tables of a target, a slug or a URL or a path, up to a space: the id of the run, and what it did.

        What has a slug is recorded as a run, as `sync` does. Raises NotFound, TargetError, StoreError, Cancelled.
        """
        from onefold import profiles_sync
        from onefold.cancel import Cancel
        from onefold.notify import Notifier

        asked = cancel or Cancel()

        def write(progress: Progress) -> Synced:
            with self._towards(space, to) as (store, target, given):
                temp = self.home / "tmp"
                return profiles_sync.sync(store, target, temp, **given, full=full, progress=progress, cancel=asked)

        if not _has_slug(to):
            return None, write(progress)
        work, run_id, by = self._writing(to, space), run_id or runs.new_id(now()), Began("cli", self.who.name)
        with closing(Notifier(self)) as notifier:
            try:
                return run_id, self._runs.record(work, write, by=by, run_id=run_id, progress=progress, cancel=asked)
            finally:
                notifier.ended(run_id)

    def _writing(self, slug: str, space: str) -> Work:
        """The run of a target with a slug."""
        target = _of(self.configuration(), slug)
        if target.space not in (None, space):
            raise TargetError(f"profiles sync {slug} is for the profiles of space {target.space}, not of {space}")
        pick(self.applied.spaces, space, "space")
        schedule = None if target.schedule is None else str(target.schedule)
        return Work(path=target.path, space=space, recipe={"profiles sync": {**vars(target), "schedule": schedule}})

    @needs(ADMIN)
    def check_profiles(self, space: str, to: str) -> list[Difference]:
        """How the tables of a target differ from the space, row by row. Raises NotFound, TargetError."""
        from onefold.profiles_sync import check

        with self._towards(space, to) as (store, target, given):
            return check.check(store, target, self.home / "tmp", **given)

    @contextmanager
    def _towards(self, space: str, to: str) -> Iterator[tuple[Store, Target, dict[str, Any]]]:
        """A space, a target that nobody else is at, and what both need to be told."""
        target, selection = self._target(space, to)
        names = {source.slug: source.name for source in pick(self.applied.spaces, space, "space").sources}
        with self.space(space) as store, store.lease(f"profiles-sync {target.name}", wait=False) as held:
            if not held:
                raise TargetError(f"target {target.name}: another run is at it; wait until it is done", code="busy")
            yield store, target, {"names": names, "selection": selection}

    def _target(self, space: str, to: str) -> tuple[Target, Selection]:
        """The target of a slug, or of a URL or a path; and what is selected for it."""
        from onefold.profiles_sync import Selection, targets

        schema = re.sub(r"[^a-z0-9_]", "_", space)
        if _has_slug(to):
            found = _of(self.applied, to)
            unset = UNSET.search(found.to)
            if unset:
                raise TargetError(f"profiles sync {to} needs the environment variable {unset[1]}, which is not set")
            selection = Selection(found.tables, found.traits, found.events)
            return targets.open(found.type, found.to, self.folder, found.schema or schema), selection
        return targets.open(targets.kind_of(to), to, self.folder, schema), Selection()

    @needs(EDITOR)
    def reset(self, selector: str, *, dry_run: bool = False) -> dict[str, Any]:
        """Forget what a mapping has seen: the next sync sends every row as new, under new message ids, and no deletes.

        Returns `mapping`, `known` (the keys that are forgotten) and `done`. Raises NotFound, Disabled, StoreError.
        """
        from onefold import ledger

        slug, _, name = selector.partition("/")
        destination = pick(self.applied.destinations, slug, "destination")
        mapping = pick(destination.mappings, name, "mapping")
        if not mapping.model:
            raise Disabled(f"mapping {selector} {LISTENS}; it has seen no rows")
        with self.space(tasks.kept(self.applied, destination, mapping)) as store:
            known = ledger.reset(store, selector, dry_run=dry_run)
        if not dry_run:
            self.note("mapping reset", selector, [f"{known:,} keys"])
        return {"mapping": selector, "known": known, "done": not dry_run}

    @needs(EDITOR)
    def resend(
        self,
        run_id: str,
        code: str | None = None,
        keys: Sequence[str] = (),
        *,
        started_by: str = "cli",
        new_id: str | None = None,
    ) -> tuple[int, Outcome]:
        """Try the rejected rows of a run again at once, as they are now: how many there were, and how it went.

        Only those with a code, and those with some keys (canonical JSON), if these are given. Raises NotFound.
        """
        run, keys = self._runs.refused(run_id, code, keys)
        began = Began(started_by, self.who.name, RESEND, run["run_id"])
        return len(keys), self._again(run["mapping"], began, new_id, None, None, only=keys)

    def _again(
        self,
        mapping: str,
        began: Began,
        run_id: str | None,
        cancel: Cancel | None,
        progress: Callable[[str], Progress] | None,
        **options: Any,
    ) -> Outcome:
        """A run that sends again what another one of a mapping rejected or sent. Raises NotFound."""
        (outcome,) = self._runs.sync(
            self._tasks(mapping),
            progress=progress,
            effect=None,
            began=began,
            run_id=run_id,
            cancel=cancel,
            **options,
        )
        return outcome

    @needs(EDITOR)
    def start_resend(self, run_id: str, code: str | None = None, keys: Sequence[str] = (), *, started_by: str) -> str:
        """Begin `resend` in a process of its own; the id of its run. Raises NotFound, Disabled."""
        run, found = self._runs.refused(run_id, code, keys)
        (task,) = self._tasks(run["mapping"])
        words = ["runs", "resend", run["run_id"], *(["--code", code] if code else [])]
        for key in keys:
            words += ["--key", key]
        new = self._runs.begin(task, words, self.folder, Began(started_by, self.who.name, RESEND, run["run_id"]))
        self.note("resend", run["mapping"], [f"run {new}", f"{len(found):,} rejected rows of run {run['run_id']}"])
        return new

    def replayable(self, run_id: str) -> dict[str, Any]:
        """What `replay` would do, in calls: those the run sent, and of these `to_send` and what the others are.

        With `to`, where they would go, `already_there` (in a profile of the space), `superseded` (the row was sent
        again since, is gone, or has another key now) and `forgotten` (by `retention`). Raises NotFound, Disabled.
        """
        from onefold import endpoints, secret

        mapping = self._runs.follow(run_id)["mapping"]
        if mapping.startswith(config.PROFILES):
            why = f"run {run_id} is of a profiles sync, which sends no calls; `--full` writes its tables anew"
            raise Disabled(why, code="other_kind")
        ((destination, found),) = self.mappings(mapping)
        if "message_id" in found.fields and found.fields["message_id"] != {"@path": "$.messageId"}:
            raise Disabled(
                f"mapping {mapping} makes message ids of its own, so that calls of older versions of a row cannot be"
                f" told from the newest; `onefold sync {mapping} --full` sends every row again",
                code="own_message_ids",
            )
        run, recorded = self._runs.recorded(run_id, self._task(destination, found, self.configuration()))
        delivers = run["space"].startswith(REMOTE)
        return {
            "run_id": run["run_id"],
            "mapping": mapping,
            "to": secret.mask(endpoints.address(destination.endpoint)) if delivers else label(run["space"]),
            "sent": recorded.sent,
            "already_there": recorded.there,
            "superseded": recorded.superseded,
            "forgotten": recorded.forgotten,
            "to_send": len(recorded.places),
        }

    @needs(EDITOR)
    def replay(
        self,
        run_id: str,
        *,
        started_by: str = "cli",
        new_id: str | None = None,
        cancel: Cancel | None = None,
        progress: Callable[[str], Progress] | None = None,
    ) -> Outcome:
        """Send again what a run sent, out of the log, under the same message ids: `replayable` says what that is.

        Raises NotFound, Disabled.
        """
        from onefold.replay import replay

        found = self.replayable(run_id)
        began = Began(started_by, self.who.name, REPLAY, found["run_id"])
        return self._again(found["mapping"], began, new_id, cancel, progress, work=replay, of=found["run_id"])

    @needs(EDITOR)
    def start_replay(self, run_id: str, *, started_by: str) -> str:
        """Begin `replay` in a process of its own; the id of its run. Raises NotFound, Disabled."""
        found = self.replayable(run_id)
        if not found["to_send"]:
            raise Disabled(f"run {found['run_id']} sent nothing that is to be sent again", code="nothing_to_send")
        (task,) = self._tasks(found["mapping"])
        began = Began(started_by, self.who.name, REPLAY, found["run_id"])
        self.note("replay", found["mapping"], [f"run {found['run_id']}", f"{found['to_send']:,} calls"])
        return self._runs.begin(task, ["runs", "replay", found["run_id"], "--yes"], self.folder, began)

    @needs(ADMIN)
    def copy(self, space: str, to: str) -> dict[str, int]:
        """Copy a space, whole, into another `store`; its tables' numbers of rows. Raises NotFound, StoreError."""
        from onefold import stores
        from onefold.stores.copy import copy

        with self.space(space) as source, stores.open(to, self.home / "spaces" / f"{space}.db") as target:
            if source.engine.name == target.engine.name:
                raise StoreError(f"space {source.engine.name} is there already; nothing was copied", code="not_empty")
            with source.turn(keep=False):  # who moves a space wants all of it
                return copy(source, target)

    @needs(ADMIN)
    def delete_space(self, slug: str, store: str = "sqlite", *, dry_run: bool = False) -> str:
        """Delete what is kept of a space that is configured no more, or in another `store`; what that was.

        Raises NotFound, StoreError.
        """
        from onefold import stores
        from onefold.report import SLUG

        if not SLUG.fullmatch(slug):
            raise NotFound(f"no space is called {slug!r}")
        used = [space.store for space in self.applied.spaces if space.slug == slug]
        if any((each == "sqlite") == (store == "sqlite") for each in used):
            why = f"space {slug} is in use; take it out of onefold.yaml, or give it another store, and apply that first"
            raise StoreError(why, code="in_use")
        engine = stores.engine(store, self.home / "spaces" / f"{slug}.db")
        if not dry_run:
            engine.delete()
            for token in self.catalog.tokens() if not used else ():
                if token.space == slug and token.revoked_at is None:
                    self.catalog.revoke_token(token.id, now())
            self.note("space delete", slug, [engine.name])
        return engine.name

    # --- keeping it ----------------------------------------------------------------------------------

    @needs(ADMIN)
    def backup(self, file: Path, said: Callable[[str, int, int], None] = lambda *_: None) -> dict[str, Any]:
        """Write a backup of it all, as it is now, into a new file; what is in it. Raises OnefoldError."""
        from onefold import backup

        return backup.write(self, file, said)

    @needs(ADMIN)
    def sweep(self) -> Iterator[dict[str, Any]]:
        """Delete what is older than `retention` says, and say what that was. Raises OnefoldError."""
        from onefold import housekeeping

        return housekeeping.sweep(self)

    # --- alerts ---------------------------------------------------------------------------------------

    def alerts(self, limit: int = 20) -> list[dict[str, Any]]:
        """The alerts, without secrets: what each watches, what fires now, and its newest messages."""
        from onefold import notify

        return notify.shown(self, limit)

    @needs(EDITOR)
    def test_alert(self, slug: str | None = None) -> list[dict[str, Any]]:
        """Send a test message of an alert, or of all: alert, channel, sent, answer. Raises NotFound."""
        from onefold import notify

        return notify.test(self, slug)

    # --- runs -----------------------------------------------------------------------------------------

    @cached_property
    def _runs(self) -> Runs:
        return Runs(self.catalog, self.space)

    def runs(self, limit: int = 50, within: str = "", status: str = "") -> list[dict[str, Any]]:
        """The newest runs first, as `onefold runs --json` prints them.

        Of a destination, DEST/, or a mapping, DEST/MAPPING, and with a status, if these are given.
        """
        return self._runs.newest(limit, within, status)

    def latest(self, selector: str | None = None, limit: int = 1) -> dict[str, tuple[dict[str, Any] | None, list[str]]]:
        """For each mapping, DEST/MAPPING: its last run, and the status of its newest ones, newest first."""
        paths = (f"{destination.slug}/{mapping.slug}" for destination, mapping in self.mappings(selector))
        return {path: self._runs.latest(path, limit) for path in paths}

    def tally(self, since: datetime, spans: int, figures: Sequence[str]) -> list[dict[str, int]]:
        """Figures of runs (ledger.Counts) since a time until now, summed up in so many equal spans, oldest first."""
        start = int(since.timestamp() * 1e6)
        width = max((now() - start) // spans, 1)
        found: list[dict[str, int]] = [dict.fromkeys(figures, 0) for _ in range(spans)]
        for line in self.catalog.tally(start, width, figures):
            at = found[min(line.pop("span"), spans - 1)]
            for name, value in line.items():
                at[name] += value
        return found

    def moved(self) -> tuple[int | None, ...]:
        """Differs when something was applied, or a run has begun or ended since."""
        return self.catalog.version(), *self.catalog.moved()

    def open_rejected(self, selector: str | None = None) -> list[dict[str, Any]]:
        """The rows that are rejected as things are: mapping, run_id, code, rows, why (of one of them), at.

        What was accepted since, or is gone, is not among them. Raises NotFound, StoreError.
        """
        found: list[dict[str, Any]] = []
        for destination, mapping in self.mappings(selector):
            if mapping.model:
                space = tasks.kept(self.applied, destination, mapping)
                found += self._runs.open(f"{destination.slug}/{mapping.slug}", space)
        return found

    def run(self, run_id: str) -> dict[str, Any]:
        """One run, with what it ran and its rejected rows counted by code. Raises NotFound."""
        return self._runs.show(run_id)

    def timetable(self) -> list[dict[str, Any]]:
        """For each mapping and profiles sync: its schedule in words, why it is off, its last run, when it is due next.

        `next_due` is in the past where `onefold serve` has to make up for it. Raises NotFound.
        """
        from onefold import scheduler

        return scheduler.timetable(self)

    def follow(self, run_id: str) -> dict[str, Any]:
        """One run as it is now: while it is under way with its `progress`. Raises NotFound."""
        return self._runs.follow(run_id)

    def rejected(self, run_id: str, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """The rejected rows of a run: key, event, code, fields, message and the row. Raises NotFound."""
        return self._runs.rejected(run_id, limit)


def _of(workspace: config.Workspace, slug: str) -> config.ProfilesSync:
    """A profiles sync. Raises NotFound."""
    try:
        found: config.ProfilesSync = pick(workspace.profiles_syncs, slug, "profiles sync")
    except NotFound as error:
        raise NotFound(f"{error}. A DuckDB file is written {slug}.duckdb, a folder of Parquet ./{slug}") from None
    return found


def _has_slug(to: str) -> bool:
    """Whether a target is one of the workspace file; a folder beside is ./NAME."""
    return "/" not in to and "." not in to
