"""Profile Spaces: where profiles are kept, by which rules, and their inputs."""

from __future__ import annotations

from nicegui import ui
from nicegui.page_arguments import PageArguments

from onefold import config, secret
from onefold.errors import OnefoldError
from onefold.meaning import REGIONS
from onefold.roles import ADMIN, EDITOR
from onefold.web import edit, kit, words
from onefold.web.edit import Form
from onefold.web.kit import column, el, link, text
from onefold.web.shell import ask, crumbs, given, may, path
from onefold.workspace import Workspace, pick

SUGGESTED = [
    {"type": "user_id", "limit": 1, "per": "ever"},
    {"type": "email", "limit": 5, "per": "annually"},
    {"type": "phone", "limit": 5, "per": "annually"},
    {"type": "anonymous_id", "limit": 5, "per": "ever"},
]
NAMED = {"local": "This workspace (local)", "north_america": "Segment, North America", "europe": "Segment, Europe"}


async def spaces(args: PageArguments) -> None:
    """All spaces."""
    crumbs(("Spaces", args.path))

    def read(workspace: Workspace) -> list[tuple[config.Space, int | str]]:
        found: list[tuple[config.Space, int | str]] = []
        for space in workspace.configuration().spaces:
            try:
                found.append((space, workspace.size(space.slug)))
            except OnefoldError as error:
                found.append((space, str(error)))
        return found

    found = await ask(read)
    with kit.page():
        actions = kit.simple_head("Spaces", "A Profile Space keeps profiles, and the identity rules that made them.")
        if may(EDITOR) and found:
            with actions:
                kit.button("Create space", None, "primary", "plus", href="/spaces/new")
        with el("section", "of-panel"):
            if not found:
                with kit.empty(
                    "No spaces yet",
                    "Profiles live in a space. Begin here: name it, and take the suggested identity rules.",
                ):
                    if may(EDITOR):
                        kit.button("Create space", None, "primary", "plus", href="/spaces/new")
                return
            columns = [
                column("name", "Space", name=True),
                column("region", "Region"),
                column("store", "Kept in"),
                column("sources", "Profile sources"),
                column("profiles", "Profiles", num=True),
            ]
            kit.Table(columns, [_row(space, size) for space, size in found], "Spaces")


def _row(space: config.Space, size: int | str) -> kit.Cell:
    href = path("spaces", space.slug)
    return {
        "id": space.slug,
        "go": href,
        "name": {"t": space.name, "href": href},
        "region": NAMED.get(space.region, space.region),
        "store": "SQLite" if space.store == "sqlite" else "PostgreSQL",
        "sources": ", ".join(source.name for source in space.sources) or "—",
        "profiles": words.number(size)
        if isinstance(size, int)
        else {"t": "cannot be read", "tone": "bad", "title": size},
    }


async def new(args: PageArguments) -> None:
    """Create a space: name, region, and its identity rules."""
    now = await ask(Workspace.configuration)
    crumbs(("Spaces", "/spaces"), ("Create space", args.path))
    with kit.page():
        kit.simple_head("Create space", "Its rules can be changed later; changes apply to what comes after.")
        form = Form()
        with el("div", "of-form"):
            form.add("name", "Name", "Production" if not now.spaces else "", must=True)
            form.add(
                "region",
                "Region",
                "local",
                "Where its profiles live. A destination must deliver to the same region.",
                options=[(one, NAMED[one]) for one in REGIONS],
            )
            options = [
                ("suggested", "Suggested: user id, email, phone, anonymous id"),
                *((space.slug, f"The same as {space.name}") for space in now.spaces),
                ("own", "My own: begin with none"),
            ]
            form.add(
                "rules",
                "Identity rules",
                "suggested",
                "By which identifiers calls belong to one person.",
                options=options,
            )
            form.add(
                "source",
                "First profile source",
                "Warehouse profiles",
                "The input that mappings name as their Profile Space.",
                must=True,
            )

        async def create() -> None:
            name = form.value("name")
            sources = [source for space in now.spaces for source in space.sources]
            if not form.free("name", (space.name for space in now.spaces), "space"):
                return
            if not form.free("source", (source.name for source in sources), "profile source"):
                return
            slug = edit.slug(name, [space.slug for space in now.spaces])
            taken = [source.slug for source in sources]
            source = {"slug": edit.slug(form.value("source"), taken), "name": form.value("source")}
            found: edit.Data = {"name": name, "region": form.value("region"), "sources": [source]}
            chosen = form.value("rules")
            if chosen == "suggested":
                found["identifiers"] = SUGGESTED
            elif chosen != "own":
                found |= await ask(lambda workspace: _rules(edit.read(workspace, "space", chosen).found or {}))
            if await form.attempt(lambda: edit.save(edit.add("space", slug, found))):
                kit.toast(f"The space {name} was created", more="Add a source", href="/sources/new")
                ui.navigate.to(path("spaces", slug))

        with kit.row():
            kit.button("Create space", create, "primary").props["data-save"] = "1"
            kit.button("Cancel", None, "ghost", href="/spaces")


def _rules(space: edit.Data) -> edit.Data:
    """The identity rules of a space, for another one."""
    return {key: space[key] for key in ("identifiers", "blocked_values", "limits") if key in space}


async def space(args: PageArguments) -> None:
    """One space: its inputs with their write keys, its rules, its size."""
    slug = given(args, "space")

    def read(workspace: Workspace) -> tuple[config.Space, int, dict[str, str]]:
        found = pick(workspace.configuration().spaces, slug, "space")
        keys = workspace.write_keys() if workspace.who.may(ADMIN) else []
        return (
            found,
            workspace.size(slug),
            {line["source"]: line["write_key"] for line in keys if line["space"] == slug},
        )

    found, size, keys = await ask(read)
    crumbs(("Spaces", "/spaces"), (found.name, args.path))
    with kit.page():
        with kit.head(found.name) as (_, facts, actions):
            with facts:
                text(f"{NAMED.get(found.region, found.region)} · kept in")
                kit.mono("SQLite" if found.store == "sqlite" else secret.mask(found.store))
                text("·")
                link(words.many(size, "profile"), f"/profiles?space={slug}")
            with actions:
                kit.button("Identity rules", None, "", "rules", href=f"/rules?space={slug}")
                if may(EDITOR):
                    kit.button("Add profile source", lambda: _source(found), "primary", "plus")
                    with kit.menu(label="More"):
                        kit.menu_item("Rename", lambda: _rename(found))
                        kit.menu_item("Detach space", lambda: _detach(found), "trash", bad=True)
        with kit.panel("Profile sources", "inputs of this space"):
            if not found.sources:
                with kit.empty(
                    "No profile sources", "A profile source is an input with a write key; mappings name one."
                ):
                    pass
                return
            columns = [
                column("name", "Name", name=True),
                column("slug", "Slug", mono=True),
                column("key", "Write key", mono=True),
                column("act", "Look at its calls", tight=True, hidden=True),
            ]
            rows = [
                {
                    "id": source.slug,
                    "name": source.name,
                    "slug": source.slug,
                    "key": keys.get(source.slug) or {"t": "shown to admins", "faint": True},
                    "act": {"act": "Open debugger", "href": f"/debugger?source={source.slug}"},
                }
                for source in found.sources
            ]
            kit.Table(columns, rows, "Profile sources")
        first = found.sources[0].slug
        with kit.panel("Send a live call"), el("div", "of-panel-body"):
            kit.note(
                "The SDKs of the Segment ecosystem work unchanged: give them this server as host, and a write key."
            )
            said = (
                f"curl -u {keys.get(first, 'WRITE_KEY')}: -H 'Content-Type: application/json' ORIGIN/v1/identify \\\n"
                """  -d '{"userId": "42", "traits": {"email": "ada@example.com"}}'"""
            )
            host = ui.context.client.request.headers.get("host", "127.0.0.1")
            el("pre", "of-code", said.replace("ORIGIN", f"http://{host}")).style(
                "white-space: pre-wrap; padding: 8px 10px"
            )


def _source(found: config.Space) -> None:
    with kit.dialog("Add a profile source") as box:
        form = Form()
        form.add("name", "Name", "", "Such as Website (JS). Each has a write key of its own.", must=True)

        async def done() -> None:
            name = form.value("name")

            def act(workspace: Workspace) -> None:
                change = edit.read(workspace, "space", found.slug)
                now = workspace.configuration()
                taken = [source.slug for space in now.spaces for source in space.sources]
                made = {"slug": edit.slug(name, taken), "name": name}
                space = {**(change.found or {}), "sources": [*((change.found or {}).get("sources") or []), made]}
                workspace.save("space", found.slug, space, change.version)

            if await form.attempt(lambda: ask(act)):
                box.close()
                ui.navigate.reload()

        with el("div", "of-dialog-end"):
            kit.button("Cancel", box.close)
            kit.button("Add profile source", done, "primary")


def _rename(found: config.Space) -> None:
    with kit.dialog(f"Rename {found.name}") as box:
        form = Form()
        form.add("name", "Name", found.name, "Mappings show the names of its sources, which stay.", must=True)

        async def done() -> None:
            if await form.attempt(lambda: edit.update("space", found.slug, {"name": form.value("name")})):
                box.close()
                ui.navigate.reload()

        with el("div", "of-dialog-end"):
            kit.button("Cancel", box.close)
            kit.button("Rename", done, "primary")


def _detach(found: config.Space) -> None:
    async def done() -> None:
        await edit.remove("space", found.slug)
        ui.navigate.to("/spaces")

    kit.confirm(
        f"Detach the space {found.name}?",
        "Its data stays until `onefold space delete`; nothing is filed into it any more, and it is not shown here.",
        "Detach space",
        done,
    )
