"""The editor of a model: SQL with preview and the proof of the key."""

from __future__ import annotations

import json
from time import perf_counter
from typing import Any

from nicegui import context, ui
from nicegui.page_arguments import PageArguments

from onefold import config
from onefold.errors import InvalidWorkspace, OnefoldError
from onefold.roles import EDITOR
from onefold.web import columns, edit, kit, tidy, words
from onefold.web.edit import Form
from onefold.web.kit import column, el, link, text
from onefold.web.models import used_by
from onefold.web.runs import Run
from onefold.web.shell import ask, asked, crumbs, given, may, path
from onefold.workspace import Workspace, pick

LIMIT = 100  # rows of a preview


async def new(args: PageArguments) -> None:
    """A new model."""
    now = await ask(Workspace.configuration)
    crumbs(("Models", "/models"), ("New model", args.path))
    if not now.sources:
        with kit.page(), el("section", "of-panel"):
            with kit.empty("No source to read from", "A model queries a source; add one first."):
                kit.button("Add source", None, "primary", "plus", href="/sources/new")
        return
    source = asked(args, "source") or now.sources[0].slug
    await _Editor(now, None, {"name": "", "source": source, "key": "", "sql": "select *\nfrom "}).build()


async def model(args: PageArguments) -> None:
    """One model."""
    slug = given(args, "model")

    def read(workspace: Workspace) -> tuple[config.Workspace, config.Model, edit.Change, Run | None]:
        now = workspace.configuration()
        used = [f"{destination.slug}/{mapping.slug}" for destination, mapping in used_by(now, slug)]
        runs = [run for at in used for run, _ in workspace.latest(at).values() if run and run.get("extracted")]
        last = max(runs, key=lambda run: str(run["started_at"]), default=None)
        return now, pick(now.models, slug, "model"), edit.read(workspace, "model", slug), last

    now, found, data, last = await ask(read)
    crumbs(("Models", "/models"), (found.name, args.path))
    typed = data.found or {}
    shown = {"name": found.name, "source": found.source, "key": found.key, "sql": typed.get("sql", found.sql)}
    await _Editor(now, found, shown, data, last).build()


class _Editor:
    """The editor of one model: SQL and preview at the left, key and columns at the right."""

    def __init__(
        self,
        now: config.Workspace,
        model: config.Model | None,
        saved: edit.Data,
        read: edit.Change | None = None,
        last: Run | None = None,
    ) -> None:
        """`last`: the newest run that read it."""
        self.now, self.model, self.saved, self.read, self.last = now, model, saved, read, last
        self.name = f"model {model.slug if model else 'new'}"
        draft = edit.draft(self.name)
        version = (read.version if read else "") or ""
        self.version = draft.version if draft else version
        self.stale = self.version != version
        self.data: edit.Data = {**saved, **(draft.value if draft else {})}
        self.columns: list[str] = []
        self.asking = 0  # how often the key was proved
        self.repeats = False  # whether the key was seen not to be unique
        self.used = used_by(now, model.slug) if model else []

    async def build(self) -> None:
        may_edit = may(EDITOR)
        with el("div", "of-editor"):
            self._head()
            with el("div", "of-panes of-panes-2"):
                with el("div", "of-pane").style("display: grid; grid-template-rows: minmax(220px, 45%) minmax(0, 1fr)"):
                    self._sql()
                    self.preview = el("section", tabindex="0", aria_label="Rows").style(
                        "border-top: 1px solid var(--border); overflow: auto"
                    )
                with el("aside", "of-pane of-pane-side", aria_label="Key and columns"), el("div", "of-set"):
                    self._side()
            with el("div", "of-bar"):
                self.said = el("span", "of-note", "")
                el("div", "of-grow")
                if may_edit:
                    kit.button("Discard", self._discard, "ghost")
                    made = kit.button("Save model" if self.model else "Create model", self._save, "primary")
                    made.props["data-save"] = "1"
        self._bar()
        if self.model:
            await self.run()
        else:
            with self.preview, kit.empty("No preview yet", "Write a query, then Preview shows its first rows."):
                pass
        ui.timer(0.1, self._complete, once=True)

    def _head(self) -> None:
        title = self.model.name if self.model else "New model"
        with el("div", "of-head-edge"), kit.head(title) as (name, facts, actions):
            with name:
                kit.icon("database", "of-faint")
                source = next((one for one in self.now.sources if one.slug == self.data["source"]), None)
                kind = f", {words.SOURCES.get(source.type, source.type)}" if source else ""
                self.from_ = el("span", "of-note", f"{self.data['source']}{kind}")
            with facts:
                text("Used by" if self.used else "Used by no mapping yet")
                kit.links([(one.name, path("destinations", at.slug, "mappings", one.slug)) for at, one in self.used])
                if self.last:
                    spent = (self.last.get("stages") or {}).get("read")
                    took = f" in {words.lasted(spent['seconds'])}" if spent else ""
                    said = f"· last read {words.ago(self.last['started_at'])}, "
                    said += f"{words.many(self.last['extracted'], 'row')}{took}"
                    el("span", "", said, title=words.exact(self.last["started_at"]))
            with actions:
                if self.model and may(EDITOR):
                    kit.button("Delete", self._delete, "ghost", "trash")
                kit.button("Format", self._format, "ghost", "format")
                made = kit.button("Preview", self.run, "", "play")
                made.props["data-preview"] = "1"

    def _sql(self) -> None:
        self.editor = ui.codemirror(
            self.data["sql"],
            language="SQL",
            on_change=lambda event: self._typed(event.value),
            theme="bbedit",
            indent="  ",
        )
        self.editor.classes("of-sql")
        # What is typed into is made in the browser, some time after the page.
        ui.run_javascript(
            f"const made = setInterval(() => {{ const editor = getElement({self.editor.id});"
            " const typed = editor?.$el?.querySelector?.('.cm-content'); if (!typed) return; clearInterval(made);"
            " typed.setAttribute('aria-label', 'SQL; Escape, then Tab, leads out of it');"
            " if (document.body.classList.contains('body--dark')) editor.setTheme?.('xcodeDark') }, 50)"
        )

    def _typed(self, sql: str) -> None:
        self.data["sql"] = sql
        self._changed()

    def _format(self) -> None:
        sql = tidy.tidy(self.data["sql"])
        if sql == self.data["sql"]:
            kit.toast("The query is laid out already")
        else:
            self.editor.value = sql
            self._typed(sql)

    def _side(self) -> None:
        self.form = Form()
        self.form.add("name", "Name", self.data["name"], must=True, act=lambda value: self._set("name", value))
        options = [(source.slug, source.name) for source in self.now.sources]
        self.form.add(
            "source", "Source", self.data["source"], options=options, act=lambda value: self._set("source", value)
        )
        self.form.add(
            "key",
            "Unique key",
            self.data["key"],
            "The column that names a row. Onefold compares rows by it.",
            must=True,
            mono=True,
            options=self._keys(),
            act=self._key,
        )
        self.proof = el("div", "of-stack").style("gap: 4px")
        self.listed = el("div")

    def _keys(self) -> list[tuple[str, str]]:
        names = self.columns or ([self.data["key"]] if self.data["key"] else [])
        first = [] if self.data["key"] in names else [("", "Choose a column")]
        return [*first, *((name, name) for name in names)]

    def _set(self, key: str, value: str) -> None:
        self.data[key] = value
        self._changed()

    async def _key(self, value: str) -> None:
        self._set("key", value)
        await self._prove()

    def _changed(self) -> None:
        edit.keep(self.name, self.data if self.data != self.saved else None, self.version)
        self._bar()

    def _bar(self) -> None:
        said = "Unsaved changes. " if self.data != self.saved and self.model else ""
        if self.model and self.data["sql"] != self.saved["sql"]:
            said += "Saving re-reads all rows at the next run; rows that did not change send nothing. "
        elif self.model and self.data["key"] != self.saved["key"]:
            said += "Another key begins anew: at the next run every row is new, and nothing counts as deleted. "
        self.said.text = f"{said}{edit.STALE}" if self.stale else said  # type: ignore[attr-defined]

    def _as(self) -> edit.Change:
        """The change that saves what was typed."""
        name = self.data["name"].strip() or "untitled"
        slug = self.model.slug if self.model else edit.slug(name, [one.slug for one in self.now.models])
        before = (self.read.found or {}) if self.read else {}
        found = {**before, **self.data, "slug": slug, "name": name}
        return edit.Change("model", slug, found, self.version)

    def _trial(self) -> edit.Change:
        """As `_as`, for a look at the rows: the key may still be missing, and the SQL stands here."""
        change = self._as()
        found = {key: value for key, value in (change.found or {}).items() if key != "sql_file"}
        found["key"] = found["key"] or (self.columns[0] if self.columns else "id")
        return edit.Change(change.kind, change.slug, found)

    # --- preview --------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Read the first rows, then prove the key."""
        change = self._trial()
        began = perf_counter()
        client = context.client
        try:
            names, rows = await ask(
                lambda workspace: change.tried(workspace).preview_model(change.slug, LIMIT, keyed=False)
            )
        except InvalidWorkspace as error:
            self._unread("; ".join(kit.sentence(problem.message) for problem in error.problems))
            return
        except OnefoldError as error:
            self._unread(str(error), error.code)
            return
        if client.is_deleted:
            return
        seconds = perf_counter() - began
        self.columns = names
        if not self.data["key"] and not self.model:
            self.data["key"] = next((name for name in names if name in ("id", f"{change.slug}_id")), names[0])
        key = self.form.fields["key"].input
        key.props["options"] = [list(option) for option in self._keys()]
        key.value = self.data["key"]
        key.update()
        self._grid(rows, seconds)
        await self._prove()

    def _unread(self, said: str, code: str = "") -> None:
        self.preview.clear()
        with self.preview, el("div", "of-panel-body"):
            kit.alert("The query cannot be read", said, code)

    def _grid(self, rows: list[dict[str, Any]], seconds: float) -> None:
        self.preview.clear()
        with self.preview:
            with el("div", "of-pane-head"):
                el("h2", "", "Preview")
                text(f"first {words.many(len(rows), 'row')}, {words.lasted(seconds)}", "of-note")
                el("span", "of-note of-right", words.many(len(self.columns), "column"))
            shown = [
                {"id": str(at), **{name: _cell(row.get(name)) for name in self.columns}} for at, row in enumerate(rows)
            ]
            numbers = {
                name for name in self.columns if rows and all(isinstance(row.get(name), int | float) for row in rows)
            }
            heads = [
                column(name, name, mono=True, raw=True, num=name in numbers) for name in self.columns if name != "id"
            ]
            if "id" in self.columns:
                for row, one in zip(shown, rows, strict=True):
                    row["key id"] = _cell(one["id"])
                heads.insert(self.columns.index("id"), column("key id", "id", mono=True, raw=True, num="id" in numbers))
            for row, at in zip(shown, range(len(shown)), strict=True):
                row["id"] = str(at)
            kit.Table(heads, shown, "Preview", dense="30")

    async def _prove(self) -> None:
        """Count rows, empty values, and whether the key is unique; only the answer to the last question is shown."""
        self.asking += 1
        mine, change = self.asking, self._trial()
        self.proof.clear()
        try:
            found = await ask(lambda workspace: change.tried(workspace).examine_model(change.slug))
        except OnefoldError as error:
            if mine == self.asking:
                with self.proof:
                    el("p", "of-wrong", str(error))
            return
        if mine != self.asking:
            return
        self.proof.clear()
        with self.proof:
            if not self.data["key"]:
                return
            repeated = found["repeated"]
            self.repeats = bool(repeated)
            filled = found["rows"] - found["empty"]
            _line(
                not repeated,
                f"{filled:,} values, all different"
                if not repeated
                else "Not unique: " + ", ".join(f"{value} stands {times:,} times" for value, times in repeated),
            )
            _line(
                not found["empty"],
                "No empty values" if not found["empty"] else f"{words.many(found['empty'], 'row')} without a value",
            )
            if repeated or found["empty"]:
                kit.note("Rows without a key, and all rows of a repeated one, are rejected.")
        self._listed(found)

    def _listed(self, found: dict[str, Any]) -> None:
        self.listed.clear()
        with self.listed:
            columns.listed(found, self.data["key"], self._trial)
            for destination, mapping, names in columns.gone(self.used, [name for name, *_ in found["columns"]]):
                with el("div", "of-alert of-alert-warn"):
                    kit.icon("partly")
                    with el("p"):
                        text("The query has no ")
                        kit.mono(", ".join(names))
                        text(", which the mapping ")
                        link(mapping.name, path("destinations", destination.slug, "mappings", mapping.slug))
                        text(" reads.")

    async def _complete(self) -> None:
        """Tell the editor the tables and columns, for completion."""
        source = self.data["source"]
        try:
            tables = await ask(lambda workspace: workspace.test_source(source))
        except OnefoldError:
            return  # the preview says what is wrong with the source
        schema = {table.name: [one.name for one in table.columns] for table in tables}
        ui.run_javascript(f"ofComplete({self.editor.id}, {_script(schema)})")

    # --- saving ---------------------------------------------------------------------------------------

    async def _save(self) -> None:
        if not self.data["name"].strip():
            self.form.say("name", "A model needs a name.")
            return
        others = (one.name for one in self.now.models if one != self.model)
        if not self.form.free("name", others, "model"):
            return
        change = self._as()

        async def save() -> None:
            if await self.form.attempt(lambda: edit.save(change)):
                edit.keep(self.name, None)
                kit.toast(f"{self.data['name']} saved", more="Map it", href="/destinations")
                ui.navigate.to(path("models", change.slug) if not self.model else "/models")

        if self.repeats and (self.model is None or self.data["key"] != self.saved["key"]):
            said = "All rows of a value that stands more than once are rejected at each sync, until it is unique."
            kit.confirm(f"Use {self.data['key']}, which is not unique, as the key?", said, "Save anyway", save)
        else:
            await save()

    def _discard(self) -> None:
        edit.keep(self.name, None)
        ui.navigate.to("/models")

    def _delete(self) -> None:
        assert self.model is not None
        if self.used:
            names = ", ".join(mapping.name for _, mapping in self.used)
            kit.toast(f"The mappings {names} read from it; delete these first", "partly")
            return
        slug = self.model.slug

        async def done() -> None:
            await edit.remove("model", slug)
            ui.navigate.to("/models")

        kit.confirm(f"Delete the model {self.model.name}?", "Its source stays as it is.", "Delete model", done)


def _line(good: bool, said: str) -> None:
    with el("p", f"of-row {'of-tone-ok' if good else 'of-tone-bad'}").style("flex-wrap: nowrap"):
        kit.icon("succeeded" if good else "failed", "of-i-14")
        el("span", "of-break", said)


def _cell(value: Any) -> kit.Cell:
    if value is None:
        return {"t": "null", "faint": True}
    return {"t": words.flat(value, 200)}


def _script(value: Any) -> str:
    return json.dumps(value).replace("<", "\\u003c")
