"""The mapping editor: columns at the left, fields in the middle, what a row would do at the right."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from nicegui import context, ui
from nicegui.page_arguments import PageArguments

from onefold import config, document
from onefold.errors import InvalidWorkspace, OnefoldError, Problem
from onefold.roles import EDITOR
from onefold.segment_profiles import ACTIONS, RECORDS_TRIGGER, Field
from onefold.web import edit, effects, kit, timing, words
from onefold.web.columns import read_by
from onefold.web.destinations import duplicate
from onefold.web.kit import el, icon, link, text
from onefold.web.shell import ask, asked, begin, crumbs, given, may, path
from onefold.web.suggest import suggest
from onefold.web.values import Context, Value, draggable
from onefold.workspace import Workspace, pick

SOON = 0.4  # seconds after which a preview is shown without what it has to wait for
ROWS = 100  # of the model, among which the test row is chosen
STATUS = "_subscription_status"
WHO = ("engage_space", "user_id", "anonymous_id", "group_id", "email", "phone", "android_push_token", "ios_push_token")
VIEWS = (("fields", "Fields"), ("trigger", "Trigger and schedule"), ("yaml", "YAML"))


async def new(args: PageArguments) -> None:
    """A new mapping: first its model and action, then its fields."""
    slug = given(args, "destination")
    now = await ask(Workspace.configuration)
    destination = pick(now.destinations, slug, "destination")
    model, action = asked(args, "model"), asked(args, "action")
    crumbs(
        ("Destinations", "/destinations"),
        (destination.name, path("destinations", slug)),
        ("Add mapping", args.path),
    )
    if len(destination.mappings) >= config.MAPPINGS:
        with kit.page():
            kit.simple_head("Add mapping")
            kit.alert(
                f"{destination.name} has {config.MAPPINGS} of {config.MAPPINGS} mappings",
                "Delete one, or add another destination.",
            )
        return
    live = all(source.slug != destination.source for source in now.sources)
    if action not in ACTIONS or (not live and all(one.slug != model for one in now.models)):
        _choose(now, destination, live=live)
        return
    sources = [source.slug for space in now.spaces for source in space.sources]
    first = {"engage_space": sources[0]} if sources else {}
    stem = model or action.removeprefix("send").lower()
    name = edit.slug(stem, [mapping.slug for mapping in destination.mappings])
    data: edit.Data = {"slug": name, "name": name, "action": action, "enabled": False, "fields": first}
    if not live:
        data |= {"model": model, "trigger": RECORDS_TRIGGER}
    await _Editor(now, destination, None, data).build(asked(args, "view", "fields"))


def _choose(now: config.Workspace, destination: config.Destination, *, live: bool) -> None:
    chosen = {"model": "", "action": "sendIdentify"}
    models = [model for model in now.models if model.source == destination.source]
    with kit.page():
        kit.simple_head("Add mapping", "Which rows, and what they become.")
        with el("div", "of-form"):
            if not live:
                if not models:
                    with kit.empty("No models of this source", "A mapping sends the rows of a model."):
                        kit.button(
                            "New model", None, "primary", "plus", href=f"/models/new?source={destination.source}"
                        )
                    return
                chosen["model"] = models[0].slug
                options = [(model.slug, model.name) for model in models]
                model = kit.field("Model", models[0].slug, options=options)
                model.input.on_value_change(lambda event: chosen.update(model=event.value))
        el("h2", "", "Action")
        place = el("div", "of-choices", role="group", aria_label="Action")

        def choose(key: str) -> None:
            chosen["action"] = key
            place.clear()
            with place:
                for action in ACTIONS.values():
                    pressed = "true" if action.key == key else "false"
                    with el("button", "of-choice", type="button", aria_pressed=pressed) as made:
                        el("strong", "", action.title)
                        text(action.description)
                    kit.on(made, "click", lambda key=action.key: choose(key))

        choose("sendIdentify")
        base = path("destinations", destination.slug, "mappings", "new")
        with kit.row():
            kit.button(
                "Next", lambda: ui.navigate.to(f"{base}?model={chosen['model']}&action={chosen['action']}"), "primary"
            )
            kit.button("Paste JSON", lambda: _paste(destination), "", "braces")
            kit.button("Cancel", None, "ghost", href=path("destinations", destination.slug))


def _paste(destination: config.Destination) -> None:
    """A mapping from its JSON, such as one that was copied elsewhere."""
    with kit.dialog("Paste a mapping", wide=True) as box:
        el("p", "of-text", "The JSON or YAML of a mapping, from here or from a Segment workspace.")
        form = edit.Form()
        form.add("text", "Mapping", "", lines=14, mono=True)

        async def done() -> None:
            async def act() -> None:
                data = _parsed(form.value("text"))
                taken = [mapping.slug for mapping in destination.mappings]
                name = edit.slug(str(data.get("name") or data.get("slug") or "pasted"), taken)
                data = {**data, "slug": name, "enabled": False}
                await edit.save(edit.add("mapping", f"{destination.slug}/{name}", data))
                kit.toast("The mapping was added, not enabled")
                ui.navigate.to(path("destinations", destination.slug, "mappings", name))

            if await form.attempt(act):
                box.close()

        with el("div", "of-dialog-end"):
            kit.button("Cancel", box.close)
            kit.button("Add mapping", done, "primary")


def _parsed(said: str) -> edit.Data:
    """A mapping that was pasted. Raises InvalidWorkspace."""
    data, _ = document.parse(said, "what was pasted")
    if not isinstance(data, dict):
        raise InvalidWorkspace(
            [Problem("mapping", "a mapping is an object, such as {action: …, fields: {…}}")], "paste"
        )
    # As Segment's own export names things.
    action = data.pop("partnerAction", None)
    if action is not None and "action" not in data:
        data["action"] = action
    if "mapping" in data and "fields" not in data:
        data["fields"] = data.pop("mapping")
    return data


async def mapping(args: PageArguments) -> None:
    """One mapping."""
    slug, name = given(args, "destination"), given(args, "mapping")

    def read(workspace: Workspace) -> tuple[config.Workspace, config.Destination, config.Mapping, edit.Change]:
        now = workspace.configuration()
        destination = pick(now.destinations, slug, "destination")
        found = pick(destination.mappings, name, "mapping")
        return now, destination, found, edit.read(workspace, "mapping", f"{slug}/{name}")

    now, destination, found, change = await ask(read)
    crumbs(
        ("Destinations", "/destinations"),
        (destination.name, path("destinations", slug)),
        (found.name, args.path),
    )
    data = {**(change.found or {}), "name": found.name, "trigger": found.trigger}
    await _Editor(now, destination, found, data, change.version or "").build(asked(args, "view", "fields"))


class _Editor:
    """The editor of one mapping, saved or new."""

    def __init__(
        self,
        now: config.Workspace,
        destination: config.Destination,
        mapping: config.Mapping | None,
        saved: edit.Data,
        version: str = "",
    ) -> None:
        self.now, self.destination, self.mapping, self.saved = now, destination, mapping, saved
        self.name = f"mapping {destination.slug}/{mapping.slug if mapping else 'new ' + saved.get('model', '')}"
        draft = edit.draft(self.name)
        if draft is not None and draft.value.get("action") != saved["action"]:
            draft = None
        self.drafted = draft is not None
        self.version = version if draft is None else draft.version
        self.stale = self.version != version
        self.data: edit.Data = json.loads(json.dumps(saved if draft is None else draft.value))
        self.action = ACTIONS[self.data["action"]]
        self.model = next((one for one in now.models if one.slug == self.data.get("model")), None)
        self.context = Context()
        self.rows: list[dict[str, Any]] = []
        self.at = 0
        self.wrong: dict[str, Any] = {}
        self.asking = 0

    @property
    def fields(self) -> dict[str, Any]:
        found: dict[str, Any] = self.data["fields"]
        return found

    # --- the frame ------------------------------------------------------------------------------------

    async def build(self, view: str) -> None:
        await self._read()
        if self.mapping is None and not self.drafted and self.context.columns:
            self.fields.update(suggest(self.action.key, self.context.columns, self.rows, self.model))
            self.saved = json.loads(json.dumps(self.data))
        with el("div", "of-editor"):
            self._head(view)
            self.main = el("div", "of-panes" if view == "fields" else "of-pane")
            if view != "fields":
                self.main.style("flex: 1")
            with self.main:
                {"trigger": self._timing, "yaml": self._yaml}.get(view, self._fields)()
            with el("div", "of-bar"):
                self.bar = kit.row()
                el("div", "of-grow")
                if may(EDITOR):
                    kit.button("Discard", self._discard, "ghost")
                    if self.model:
                        kit.button("Test 100 rows", self._test, "", "test").props["data-preview"] = "1"
                    word = "Save mapping" if self.mapping else "Create mapping"
                    self.saver = kit.button(word, self._save, "primary")
                    self.saver.props["data-save"] = "1"
        self._bar()
        if view == "fields":
            await self._preview()

    async def _read(self) -> None:
        """The first rows of the model."""
        self.problem = ""
        if self.model is None:
            return
        model = self.model.slug
        try:
            columns, self.rows = await ask(lambda workspace: workspace.preview_model(model, ROWS))
        except OnefoldError as error:
            self.problem = str(error)
            return
        self.context.look(columns, self.rows, self.rows[0] if self.rows else {}, self._key(0))

    def _key(self, at: int) -> str:
        row = self.rows[at] if at < len(self.rows) else {}
        return words.flat(row.get(self.model.key), 30) if self.model else ""

    def _head(self, view: str) -> None:
        with el("div", "of-head-edge"), kit.head(self.data.get("name") or self.data["slug"]) as (name, facts, actions):
            with name:
                on = bool(self.mapping and self.mapping.enabled)
                kit.pill("Enabled" if on else "Not enabled" if self.mapping else "New", "ok" if on else "", dot=on)
            with facts:
                if self.model:
                    text("Model")
                    link(self.model.slug, path("models", self.model.slug), "of-mono")
                else:
                    text("Live calls")
                text(f"→ {self.action.title} ·")
                icon("clock", "of-i-14")
                text(words.when(self.mapping.schedule) if self.mapping else "Manual")
            with actions:
                base = path(
                    "destinations", self.destination.slug, "mappings", self.mapping.slug if self.mapping else "new"
                )
                if self.mapping is None:
                    base += f"?model={self.data.get('model', '')}&action={self.action.key}"
                sign = "&" if "?" in base else "?"
                options = [(base if key == "fields" else f"{base}{sign}view={key}", word) for key, word in VIEWS]
                kit.segment_links(options, base if view == "fields" else f"{base}{sign}view={view}", "View")
                if self.mapping and may(EDITOR):
                    slug = self.mapping.slug
                    with kit.menu(label="More"):
                        kit.menu_item("Rename", self._rename)
                        kit.menu_item("Duplicate", lambda: duplicate(self.destination, slug), "copy")
                        copier = kit.menu_item("Copy as JSON", lambda: None, "braces")
                        copier.props["data-copy"] = json.dumps(self.saved, ensure_ascii=False, indent=2)

    def _rename(self) -> None:
        with kit.dialog("Rename the mapping") as box:
            made = kit.field(
                "Name", self.data.get("name", ""), "Its slug stays, so that its runs stay its own.", must=True
            )

            def done() -> None:
                name = str(made.value).strip() or self.data["slug"]
                others = [one.name.lower() for one in self.destination.mappings if one != self.mapping]
                if name.lower() in others:
                    made.wrong(f"A mapping named “{name}” exists. Choose another name.")
                    return
                self.data["name"] = name
                self._changed()
                box.close()

            with el("div", "of-dialog-end"):
                kit.button("Cancel", box.close)
                kit.button("Rename", done, "primary")

    # --- the bar --------------------------------------------------------------------------------------

    def _changes(self) -> int:
        keys = {*self.data["fields"], *self.saved["fields"]}
        changed = [key for key in keys if self.data["fields"].get(key) != self.saved["fields"].get(key)]
        others = {key for key in (*self.data, *self.saved) if key != "fields"}
        return len(changed) + len([key for key in others if self.data.get(key) != self.saved.get(key)])

    def _bar(self) -> None:
        count = self._changes()
        self.bar.clear()
        with self.bar:
            if self.wrong:
                icon("failed", "of-tone-bad")
                el(
                    "span",
                    "of-tone-bad of-name",
                    f"{words.many(len(self.wrong), 'field needs', 'fields need')} a change",
                )
            if count:
                text(f"{words.many(count, 'unsaved change')}", "of-text")
            elif self.mapping and not self.wrong:
                text("All changes are saved", "of-note")
            if self.stale:
                icon("partly", "of-tone-warn")
                text(edit.STALE, "of-tone-warn")

    def _changed(self) -> None:
        edit.keep(self.name, self.data if self._changes() else None, self.version)
        self._bar()

    async def _field_changed(self) -> None:
        self._changed()
        await self._preview()

    def _as(self) -> edit.Change:
        """The change that saves what is here."""
        data = {key: value for key, value in self.data.items() if value not in (None, "")}
        data["fields"] = {key: value for key, value in self.fields.items() if value not in (None, "")}
        return edit.Change("mapping", f"{self.destination.slug}/{self.data['slug']}", data, self.version)

    async def _save(self) -> None:
        try:
            await edit.save(self._as())
        except InvalidWorkspace as error:
            self.wrong = {_field(problem): problem.message for problem in error.problems}
            self._bar()
            self._mark()
            kit.toast("; ".join(kit.sentence(problem.message) for problem in error.problems), "failed")
            return
        edit.keep(self.name, None)
        kit.toast(
            f"{self.data.get('name')} saved"
            if self.mapping
            else f"{self.data.get('name')} was created, not enabled yet"
        )
        ui.navigate.to(path("destinations", self.destination.slug))

    def _discard(self) -> None:
        edit.keep(self.name, None)
        ui.navigate.to(path("destinations", self.destination.slug))

    # --- fields ---------------------------------------------------------------------------------------

    def _fields(self) -> None:
        with el("aside", "of-pane", aria_label="Columns"):
            self._columns()
        with el("section", "of-pane", aria_label="Fields"):
            self.middle = el("div", "of-set")
            self._middle()
        with el("aside", "of-pane of-pane-side", aria_label="Preview"):
            self._right()

    def _columns(self) -> None:
        with el("div", "of-pane-head"):
            el("h2", "", "Columns")
            text(str(len(self.context.columns)), "of-note")
            self.valued = el("span", "of-note of-right", f"values of row {self._key(self.at)}" if self.rows else "")
        if self.problem:
            with el("div", "of-panel-body"):
                kit.alert("The model cannot be read", self.problem)
            return
        if self.model is None:
            with el("div", "of-panel-body"):
                kit.note("Live calls have no columns: values are read from the call, such as $.properties.total.")
            return
        with el("div").style("padding: 8px 12px 0"):
            kit.search("Filter columns", "", lambda said: self._list(said), "100%")
        self.listed = el("div", "of-cols")
        self._list("")

    def _list(self, said: str) -> None:
        used = set(read_by(self.fields)) | _templated(self.fields)
        self.listed.clear()
        with self.listed:
            for name in self.context.columns:
                if said.lower() not in name.lower():
                    continue
                made = el("button", "of-used" if name in used else "", type="button", title=self.context.sample(name))
                with made:
                    icon(self.context.icons[name])
                    kit.mono(name)
                    kit.mono(self.context.sample(name))
                kit.on(made, "click", lambda name=name: self._add_trait(name))
                draggable(made, name)

    def _add_trait(self, name: str) -> None:
        """A column that is pressed becomes a trait, unless it is one."""
        key = next(
            (
                field.key
                for field in self.action.fields
                if field.type == "object" and field.key != "subscription_groups" and not field.hidden
            ),
            None,
        )
        pairs = self.fields.get(key) if key else None
        if key is None or (pairs is not None and not _pairs(pairs)) or name in (pairs or {}):
            return
        from onefold.web.values import of_column

        self.fields[key] = {**(pairs or {}), name: of_column(name)}
        self._redraw()

    def _redraw(self) -> None:
        self._middle()
        self._list("")
        ui.timer(0.01, self._field_changed, once=True)

    def _middle(self) -> None:
        self.errors: dict[str, Any] = {}
        self.values: dict[str, Value] = {}
        self.middle.clear()
        visible = [field for field in self.action.fields if not field.hidden]
        statuses = [one for one in visible if one.key.endswith(STATUS) or one.key == "subscription_groups"]
        who = [one for one in visible if one.key in WHO]
        rest = [one for one in visible if one not in who and one not in statuses and one.type != "object"]
        with self.middle:
            self._title("Who", "at least one identifier is required")
            for one in who:
                self._line(one)
            if statuses:
                self._title("Subscription statuses", "subscribed, unsubscribed, did_not_subscribe, true or false")
                for one in statuses:
                    if one.type == "object":
                        self._object(one, "group")
                    else:
                        self._line(one)
            if rest:
                self._title("What and when", "")
                for one in rest:
                    self._line(one)
            for one in visible:
                if one.type == "object" and one not in statuses:
                    pairs = self.fields.get(one.key) or {}
                    count = len(pairs) if _pairs(pairs) else 1
                    said = (
                        words.many(count, one.label.lower().rstrip("s"))
                        if count != 1
                        else f"1 {one.label.lower().rstrip('s')}"
                    )
                    said = (
                        f"{count} {'properties' if one.key == 'properties' and count != 1 else said.partition(' ')[2]}"
                    )
                    to = "of the event" if one.key == "properties" else "written to the profile"
                    self._title(one.label, f"{said} {to}")
                    self._object(
                        one, one.label.lower().removesuffix("ies") + "y" if one.key == "properties" else "trait"
                    )

    def _title(self, word: str, beside: str) -> None:
        with kit.row():
            el("h2", "", word)
            if beside:
                text(beside, "of-note")

    def _line(self, field: Field) -> None:
        with el("div", "of-line"):
            label = el(
                "label",
                "of-label",
                _label(field),
                title=field.description,
            )
            if field.required:
                label.classes("of-must")
                with label:
                    el("span", "of-tone-bad", "*", aria_hidden="true")
            if field.key == "engage_space":
                self._space(label)
            else:
                self._value(field.key, field.label, self.fields.get(field.key), self._setter(field.key), field)
            self._error(field.key)

    def _setter(self, key: str) -> Callable[[Any], Any]:
        def changed(value: Any) -> None:
            if value is None:
                self.fields.pop(key, None)
            else:
                self.fields[key] = value
            self._list("")
            ui.timer(0.01, self._field_changed, once=True)

        return changed

    def _value(
        self, key: str, label: str, value: Any, changed: Callable[[Any], Any], field: Field | None = None
    ) -> None:
        default = ""
        if field is not None and field.default is not None:
            from onefold.web.values import DEFAULTS

            default = DEFAULTS.get(field.default["@path"], "")
        self.values[key] = Value(label, value, self.context, changed, default).bind()

    def _error(self, key: str) -> None:
        self.errors[key] = el("p", "of-wrong", "", role="alert")
        self.errors[key].set_visibility(False)

    def _space(self, label: Any) -> None:
        """The Profile Space, by the name of its source."""
        sources = [(source, space) for space in self.now.spaces for source in space.sources]
        options = [(source.slug, source.name) for source, _ in sources]
        now = str(self.fields.get("engage_space") or "")
        if not sources:
            with kit.row():
                kit.note("There is no Profile Space yet.")
                kit.button("Create a space", None, "", href="/spaces/new", small=True)
            return
        if now not in dict(options):
            options.insert(0, (now, now or "Choose a space"))
        made = kit.Input(now, lambda value: self._chosen(value), options=options)
        label.props["for"] = made.html_id
        space = next((space for source, space in sources if source.slug == now), None)
        self.of_space = kit.note(f"in space {space.name}, region {space.region}" if space else "")

    def _chosen(self, value: str) -> None:
        self.fields["engage_space"] = value
        space = next((space for space in self.now.spaces for source in space.sources if source.slug == value), None)
        self.of_space.text = f"in space {space.name}, region {space.region}" if space else ""  # type: ignore[attr-defined]
        ui.timer(0.01, self._field_changed, once=True)

    def _object(self, field: Field, word: str) -> None:
        """An object, key by key; one that is made by a directive is edited whole."""
        pairs = self.fields.get(field.key) or {}
        if not _pairs(pairs):
            with el("div", "of-line"):
                el("span", "of-label", field.label)
                self._value(field.key, field.label, pairs, self._setter(field.key))
                self._error(field.key)
            return
        with el("div", "of-pairs"):
            for key, value in pairs.items():
                self._pair(field, word, key, value)
        self._error(field.key)
        with kit.row():
            kit.button(f"Add {word}", lambda: self._add_pair(field), "", "plus", small=True)
            if word != "group" and self.context.columns:
                kit.button("Add all unused columns", lambda: self._add_unused(field), "ghost", small=True)

    def _pair(self, field: Field, word: str, key: str, value: Any) -> None:
        with el("div", "of-pair"):
            kit.Input(
                key,
                lambda now: self._rename_pair(field, key, str(now)),
                label=f"Name of the {word}",
                mono=True,
                pause=1200,
            )
            self._value(f"{field.key}.{key}", key, value, lambda now: self._set_pair(field, key, now))
            kit.button("", lambda: self._remove_pair(field, key), "ghost", "close", label=f"Remove {key}")

    def _set_pair(self, field: Field, key: str, value: Any) -> None:
        self.fields[field.key] = {**self.fields[field.key], key: value}
        self._list("")
        ui.timer(0.01, self._field_changed, once=True)

    def _rename_pair(self, field: Field, key: str, now: str) -> None:
        pairs = self.fields[field.key]
        if now and now not in pairs and key in pairs:
            self.fields[field.key] = {now if one == key else one: value for one, value in pairs.items()}
            self._redraw()

    def _remove_pair(self, field: Field, key: str) -> None:
        self.fields[field.key] = {one: value for one, value in self.fields[field.key].items() if one != key}
        self._redraw()

    def _add_pair(self, field: Field) -> None:
        pairs = self.fields.get(field.key) or {}
        stem = "group" if field.key == "subscription_groups" else "name"
        self.fields[field.key] = {**pairs, edit.slug(f"new_{stem}", list(pairs)).replace("-", "_"): ""}
        self._redraw()

    def _add_unused(self, field: Field) -> None:
        from onefold.web.values import of_column

        used = set(read_by(self.fields)) | _templated(self.fields)
        unused = {name: of_column(name) for name in self.context.columns if name not in used}
        self.fields[field.key] = {**(self.fields.get(field.key) or {}), **unused}
        self._redraw()

    # --- preview --------------------------------------------------------------------------------------

    def _right(self) -> None:
        with el("div", "of-pane-head"):
            el("h2", "", "Preview")
            el("div", "of-grow")
            if self.rows:
                kit.button("", lambda: self._go(self.at - 1), "ghost", "back", label="Previous row", small=True)
                options = [(str(at), f"Row {self._key(at)}") for at in range(len(self.rows))]
                self.chooser = kit.Input("0", lambda at: self._go(int(at)), options=options, label="Test row")
                self.chooser.style("width: 140px")
                kit.button("", lambda: self._go(self.at + 1), "ghost", "forward", label="Next row", small=True)
        self.will = el("div", aria_live="polite")

    async def _go(self, at: int) -> None:
        if not 0 <= at < len(self.rows) or at == self.at:
            return
        self.at = at
        self.context.look(self.context.columns, self.rows, self.rows[at], self._key(at))
        self.chooser.value = str(at)
        self.valued.text = f"values of row {self._key(at)}"  # type: ignore[attr-defined]
        self._list("")
        await self._preview()

    async def _preview(self) -> None:
        """Try the row; only the answer to the last question is shown."""
        if self.model is None or not self.rows:
            return
        self.asking += 1
        mine, change = self.asking, self._as()
        selector = f"{self.destination.slug}/{self.data['slug']}"
        key = self.rows[self.at].get(self.model.key)
        client = context.client
        try:
            wanted = begin(lambda workspace: effects.tried(workspace, change, selector, key, self._into()))
            await asyncio.wait({wanted}, timeout=SOON)
            if not wanted.done():  # a sync writes to the space: until it lets others, the call is shown alone
                said = await ask(lambda workspace: effects.called(workspace, change, selector, key))
                if mine == self.asking and not (client.is_deleted or self.will.is_deleted):
                    self._tell(said, waits=True)
            said = await wanted
        except InvalidWorkspace as error:
            said = None
            wrong = {_field(problem): problem.message for problem in error.problems}
        except OnefoldError as error:
            said, wrong = None, {"": str(error)}
        if mine != self.asking or client.is_deleted or self.will.is_deleted:
            return
        self._tell(said, wrong if said is None else None)

    def _tell(self, said: dict[str, Any] | None, wrong: dict[str, Any] | None = None, *, waits: bool = False) -> None:
        """Show what the row would do, or what is wrong at which fields; `waits`: what it would do is not known yet."""
        refused = (said and said["rejected"]) or {}
        fields = refused.get("fields") or ([""] if refused else [])
        self.wrong = dict.fromkeys(fields, refused.get("message", "")) if wrong is None else wrong
        self._mark()
        self._bar()
        self.will.clear()
        with self.will:
            effects.show(said, self.wrong.values(), self._into(), waits=waits)

    def _mark(self) -> None:
        """Say at each field what is wrong with it."""
        if not hasattr(self, "errors"):
            return
        for key, made in self.errors.items():
            said = self.wrong.get(key, "")
            field = next((one for one in self.action.fields if said.startswith(key) and one.key == key), None)
            made.text = kit.sentence(f"{_label(field)}{said.removeprefix(key)}" if field else said)
            made.set_visibility(bool(said))
            value = self.values.get(key)
            if value is not None:
                if said:
                    value.button.props["aria-invalid"] = "true"
                else:
                    value.button.props.pop("aria-invalid", None)
                value.button.update()

    def _into(self) -> str:
        """The slug of the space that the mapping sends to; empty without one."""
        wanted = self.fields.get("engage_space")
        spaces = self.now.spaces
        return next((space.slug for space in spaces for source in space.sources if source.slug == wanted), "")

    async def _test(self) -> None:
        """How the first rows fare."""
        change, selector = self._as(), f"{self.destination.slug}/{self.data['slug']}"
        found = await ask(lambda workspace: change.tried(workspace).test_rows(selector, ROWS))
        with kit.dialog(f"{words.many(found['rows'], 'row')} tested"):
            with kit.strip():
                kit.figure("Accepted", words.number(found["accepted"]), tone="ok", small=True)
                kit.figure("Not selected", words.number(found["filtered"]), small=True)
                refused = sum(len(keys) for _, keys in found["rejected"].values())
                kit.figure("Rejected", words.number(refused), tone="bad" if refused else "", small=True)
            for code, (sentence, keys) in found["rejected"].items():
                kit.alert(sentence, f"Rows {', '.join(keys[:8])}{' …' if len(keys) > 8 else ''}", code)
            if not refused:
                kit.alert("No row is rejected", "Nothing was sent: this only looks.", tone="ok")

    # --- the other views ------------------------------------------------------------------------------

    def _timing(self) -> None:
        others = [
            (f"{one.slug}/{other.slug}", f"{one.name}: {other.name}")
            for one in self.now.destinations
            for other in one.mappings
            if not self.mapping or other.slug != self.mapping.slug
        ]

        def changed(wrong: str | None) -> None:
            if wrong is not None:
                self.wrong = {"trigger": wrong} if wrong else {}
            self._changed()

        timing.build(self.data, None if self.model is None else others, changed)

    def _yaml(self) -> None:
        with el("div", "of-set"):
            kit.note("The mapping as the workspace file has it. JSON is YAML too: paste a mapping copied elsewhere.")
            written = document.write(self.data, config.SHAPE["destinations"]["mappings"])
            made = kit.field("Mapping as YAML", written, lines=26, mono=True, pause=600)
            made.input.on_value_change(lambda event: typed(str(event.value)))

            def typed(said: str) -> None:
                try:
                    data = _parsed(said)
                    if data.get("action") not in ACTIONS or not isinstance(data.get("fields"), dict):
                        raise InvalidWorkspace([Problem("mapping", "a mapping has an action and fields")], "this")
                except OnefoldError as error:
                    made.wrong(str(error))
                    self.wrong = {"yaml": str(error)}
                else:
                    made.wrong(None)
                    self.wrong = {}
                    self.data = {**data, "slug": self.data["slug"]}
                self._changed()


def _label(field: Field) -> str:
    return f"{field.label.removesuffix(' Subscription Status')} status" if field.key.endswith(STATUS) else field.label


def _pairs(value: Any) -> bool:
    """Whether an object is plain keys with values, and no directive."""
    return isinstance(value, dict) and not any(key.startswith("@") for key in value)


def _templated(value: Any) -> set[str]:
    """The columns that templates name."""
    import re

    return set(re.findall(r"properties\.(\w+)", json.dumps(value)))


def _field(problem: Problem) -> str:
    """The field that a problem of the configuration is about."""
    import re

    found = re.search(r"\.fields\.(\w+)", problem.path) or re.search(r"field '?(\w+)'?", problem.message)
    return found[1] if found else problem.path.rpartition(".")[2]
