"""Changing one object of the workspace file: it is changed in place, checked as a whole and applied, or nothing is.

The file stays the truth: what is not applied of it is never applied along the way, and what somebody else saved in the
meantime is not overwritten.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

from onefold import canonical, config, document, secret, splice, variables
from onefold.errors import Conflict, InvalidObject, InvalidWorkspace, NotFound, OnefoldError, Problem
from onefold.nearest import nearest

# Kind -> where its objects stand.
SECTIONS = {"space": "spaces", "source": "sources", "model": "models", "destination": "destinations", "alert": "alerts"}
KINDS = (*SECTIONS, "mapping")
HIDDEN = "***"  # stands for a secret that is not shown, and for the same one when it comes back
PATIENCE = 10  # seconds to wait for somebody else who is saving


class Typed:
    """The workspace file as text and as typed data, `${NAME}` and sql_file as they are."""

    def __init__(self, file: Path) -> None:
        raw = file.read_bytes().decode("utf-8-sig")
        self.file = file
        self.ends = "\r\n" if "\r\n" in raw else "\n"
        self.text = raw.replace("\r\n", "\n")
        data = document.parse(self.text, file.name)[0]
        self.data: dict[str, Any] = {} if data is None else data


def place(data: dict[str, Any], kind: str, slug: str) -> tuple[list[dict[str, Any]], int | None, str, str]:
    """Where an object stands in typed data: its list, its place there, its own slug, and the list's dotted path.

    The slug of a mapping is DEST/MAPPING. Raises NotFound for a kind or destination that is none.
    """
    if kind not in KINDS:
        raise NotFound(f"there is no kind {kind!r}; there are {', '.join(KINDS)}")
    above, own = slug.split("/", 1) if kind == "mapping" and "/" in slug else ("", slug)
    holder, section, path = data, SECTIONS.get(kind, "mappings"), ""
    if kind == "mapping":
        destinations = data.get("destinations") or []
        slugs = [item.get("slug") for item in destinations]
        if above not in slugs:
            raise NotFound(f"no destination {above!r}{nearest(above, slugs)}")
        holder, path = destinations[slugs.index(above)], f"destinations[{slugs.index(above)}]."
    items = holder.get(section)
    if items is None:
        items = holder[section] = []
    at = next((at for at, item in enumerate(items) if item.get("slug") == own), None)
    return items, at, own, f"{path}{section}"


def version(found: Mapping[str, Any]) -> str:
    """Differs when anything in the object does."""
    return hashlib.sha256(canonical.encode(found).encode()).hexdigest()[:16]


def read(file: Path, kind: str, slug: str) -> dict[str, Any]:
    """An object as it is typed in the file, to be edited: `object`, secrets hidden, and its `version`. Raises NotFound.

    A model has its `sql`, also if that stands in a file.
    """
    typed = Typed(file)
    items, at, own, _ = place(typed.data, kind, slug)
    if at is None:
        slugs = [str(item.get("slug")) for item in items]
        raise NotFound(f"no {kind} {own!r}{nearest(own, slugs)}; the file has {', '.join(slugs) or 'none'}")
    whole = _whole(items[at], file.parent)
    return {"object": _hidden(whole, typed.data), "version": version(whole)}


def _whole(found: dict[str, Any], folder: Path) -> dict[str, Any]:
    """An object with the text of its sql_file."""
    if isinstance(found.get("sql_file"), str) and (folder / found["sql_file"]).is_file():
        return {**found, "sql": (folder / found["sql_file"]).read_text(encoding="utf-8-sig")}
    return found


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """While somebody saves, no other process does. Raises Conflict."""
    from filelock import FileLock, Timeout

    home.mkdir(mode=0o700, exist_ok=True)
    try:
        with FileLock(home / "editing.lock", timeout=PATIENCE):
            yield
    except Timeout:
        raise Conflict("somebody else is saving at this moment; try again", code="busy") from None


# --- saving -------------------------------------------------------------------------------------------


def save(
    file: Path,
    env: Mapping[str, str],
    kind: str,
    slug: str,
    given: dict[str, Any] | None,
    seen: str | None,
    apply: Callable[[], Any],
) -> tuple[Any, str]:
    """Put an object into the file, or with None take it out, and apply; what `apply` returns, and the new version.

    `env`: the real environment. `seen`: the version that was edited; '' if there was none; None does not look. Raises
    InvalidObject, Conflict, NotFound, OnefoldError; then everything is as it was.
    """
    home = file.parent / ".onefold"
    typed = Typed(file)
    items, at, own, path = place(typed.data, kind, slug)
    old = None if at is None else items[at]
    _same(kind, slug, None if old is None else _whole(old, file.parent), seen, gone=given is None)
    before = deepcopy(typed.data)
    kept = variables.read(home)
    secrets = dict(kept)
    sql_file: Path | None = None
    sql: str | None = None
    if given is None:
        assert at is not None  # _same has looked
        del items[at]
    else:
        made = _made(kind, own, given, old)
        sql_file = _sql_file(made, old, file.parent)
        sql = made.pop("sql") if sql_file else None
        _shown(made, old, _names(before, kind, slug, env), secrets)
        at = len(items) if at is None else at
        items[at : at + 1] = [made]
    with _back(file, sql_file, home, kept):
        if secrets != kept:
            variables.write(home, secrets)
        if sql_file and sql is not None:
            variables.replace(sql_file, sql)
        text = _text(typed, before, {**secrets, **env}, f"{path}[{at}]" if given is not None else None)
        variables.replace(file, text.replace("\n", typed.ends))
        applied = apply()
    return applied, version(_whole(items[at], file.parent)) if given is not None else ""


def _made(kind: str, slug: str, given: dict[str, Any], old: dict[str, Any] | None) -> dict[str, Any]:
    """The object as it is to stand in the file. Raises InvalidObject."""
    if given.get("slug", slug) != slug:
        raise _invalid("slug", "a slug is not changed: that would be another object; make a new one instead")
    made = {"slug": slug, **deepcopy(given)}
    if kind == "destination" and "mappings" not in made and old and "mappings" in old:
        made["mappings"] = old["mappings"]
    return made


def _text(typed: Typed, before: dict[str, Any], env: Mapping[str, str], prefix: str | None) -> str:
    """The text of the file with the changed data, which is valid. Raises InvalidObject, OnefoldError."""
    _drop_empty(typed.data, before)
    text = splice.changed(typed.text, before, typed.data, config.SHAPE)
    try:
        config.parse(text, typed.file, env)
    except InvalidWorkspace as error:
        raise _located(error, prefix, typed.data) from None
    if document.parse(text, typed.file.name)[0] != typed.data:
        raise OnefoldError(
            f"{typed.file.name} is written in a way that cannot be changed from here (an anchor or a merge, perhaps);"
            " change it by hand",
            code="not_editable",
        )
    return text


def _same(kind: str, slug: str, old: dict[str, Any] | None, seen: str | None, *, gone: bool) -> None:
    """Raises Conflict if the object is not as it was seen, NotFound if there is none to take out."""
    if old is None:
        if seen:
            raise Conflict(f"{kind} {slug} was removed in the meantime; what you changed is not saved", code="stale")
        if gone:
            raise NotFound(f"there is no {kind} {slug}")
    elif seen == "":
        raise Conflict(f"there is a {kind} {slug} already; choose another slug", code="exists")
    elif seen is not None and seen != version(old):
        raise Conflict(
            f"somebody else changed {kind} {slug} in the meantime; read it again and make your change there",
            code="stale",
        )


@contextmanager
def _back(file: Path, sql_file: Path | None, home: Path, kept: dict[str, str]) -> Iterator[None]:
    """Bring everything back as it was if anything fails."""
    was = file.read_bytes()
    sql = sql_file.read_bytes() if sql_file and sql_file.exists() else None
    try:
        yield
    except BaseException:
        if file.read_bytes() != was:
            variables.replace(file, was.decode("utf-8"))
        if sql_file and sql is not None and sql_file.read_bytes() != sql:
            variables.replace(sql_file, sql.decode("utf-8"))
        if variables.read(home) != kept:
            variables.write(home, kept)
        raise


def _drop_empty(data: dict[str, Any], before: dict[str, Any]) -> None:
    """Leave out lists that `place` made and nothing came into."""
    for section in SECTIONS.values():
        if data.get(section) == [] and section not in before:
            del data[section]


def _sql_file(made: dict[str, Any], old: dict[str, Any] | None, folder: Path) -> Path | None:
    """The file that the SQL of a model goes to, if it has one; from here no other file is written."""
    name = (old or {}).get("sql_file")
    if made.get("sql_file") not in (None, name):
        raise _invalid("sql_file", "another file is named in the workspace file only; give sql here")
    if name is None or "sql" not in made or "${" in name:
        return None
    made["sql_file"] = name
    return folder / str(name)


# --- problems -----------------------------------------------------------------------------------------


def _invalid(field: str, sentence: str) -> InvalidObject:
    return InvalidObject([Problem(field, sentence)], {field: [sentence]})


def _located(error: InvalidWorkspace, prefix: str | None, data: dict[str, Any]) -> InvalidObject:
    """The problems at the fields of the object; those elsewhere say where."""
    fields: dict[str, list[str]] = {}
    for problem in error.problems:
        path, sentence = problem.path, problem.message
        if prefix is not None and (path == prefix or path.startswith(f"{prefix}.")):
            path = path[len(prefix) + 1 :]
            missing = re.match(r"(\w+) is missing", sentence)
            if missing:
                path = f"{path}.{missing[1]}".lstrip(".")
        else:
            path, sentence = "", f"{_named(path, data)}: {sentence}"
        fields.setdefault(path, []).append(sentence)
    return InvalidObject(error.problems, fields)


def _named(path: str, data: Any) -> str:
    """`models[0].source` as `model customers, source`."""
    words = []
    for name, index, rest in re.findall(r"(\w+)\[(\d+)\]|(\w+)", path):
        if rest:
            words.append(rest)
            data = data.get(rest) if isinstance(data, dict) else None
            continue
        items = data.get(name) if isinstance(data, dict) else None
        data = items[int(index)] if isinstance(items, list) and int(index) < len(items) else None
        words.append(f"{name.removesuffix('s')} {data.get('slug', index) if isinstance(data, dict) else index}")
    return ", ".join(words) or "the file"


# --- secrets ------------------------------------------------------------------------------------------


def _urls(found: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, str]]:
    """(object, key, dotted path) of what may hold a password in an object of any kind."""
    for where, key in (
        *(("", key) for key in ("url", "store")),
        *(("settings", "endpoint"), ("email", "server"), ("webhook", "url")),
    ):
        holder = found.get(where) if where else found
        if isinstance(holder, dict) and isinstance(holder.get(key), str):
            yield holder, key, f"{where}.{key}".lstrip(".")


def _inputs(found: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The profile sources of a space that have a write key, by slug."""
    sources = (found or {}).get("sources")
    items = sources if isinstance(sources, list) else []
    return {item["slug"]: item for item in items if isinstance(item, dict) and isinstance(item.get("write_key"), str)
            and isinstance(item.get("slug"), str)}  # fmt: skip


def _words(found: dict[str, Any] | None) -> dict[tuple[str, str], tuple[dict[str, Any], str]]:
    """(slug, kind) -> (object, key) of what is a secret as a whole in an object of any kind."""
    kept = {(slug, "WRITE_KEY"): (source, "write_key") for slug, source in _inputs(found).items()}
    for where, key, kind in (("webhook", "secret", "SECRET"), ("slack", "url", "SLACK_URL")):
        holder = (found or {}).get(where)
        if found and isinstance(holder, dict) and isinstance(holder.get(key), str):
            kept[str(found.get("slug")), kind] = (holder, key)
    return kept


def _hidden(found: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """A copy of an object without its secrets."""
    found = deepcopy(found)
    for holder, key, _ in _urls(found):
        holder[key] = secret.mask(holder[key])
    for holder, key in _words(found).values():
        if secret.literal(holder[key]):
            holder[key] = HIDDEN
    keys = {source["write_key"]: slug for space in data.get("spaces") or [] for slug, source in _inputs(space).items()}
    for mapping in found.get("mappings") or [found]:
        fields = mapping.get("fields") if isinstance(mapping, dict) else None
        if isinstance(fields, dict) and isinstance(fields.get("engage_space"), str):
            fields["engage_space"] = keys.get(fields["engage_space"], fields["engage_space"])
    return found


def _shown(
    made: dict[str, Any], old: dict[str, Any] | None, name: Callable[[str, str], str], secrets: dict[str, str]
) -> None:
    """Put hidden secrets back, and those that were typed under a variable into `secrets`."""

    def keep(slug: str, kind: str, typed: str) -> str:
        variable = name(slug, kind)
        secrets[variable] = typed
        return f"${{{variable}}}"

    were = {path: holder[key] for holder, key, path in _urls(old or {})}
    for holder, key, path in _urls(made):
        was = were.get(path, "")
        if holder[key] == was or holder[key] == secret.mask(was):
            holder[key] = was
            continue
        known = secret.literals(was)
        back = holder[key]
        if known:
            back = secret.swap(back, partial(_known, known[0]))
        if HIDDEN in secret.literals(back):
            raise _invalid(path, "type the password, it is not known here")
        holder[key] = secret.swap(back, lambda typed: keep(made["slug"], "PASSWORD", typed))
    kept = _words(old)
    for at, (holder, key) in _words(made).items():
        was = kept[at][0][kept[at][1]] if at in kept else ""
        if holder[key] in (HIDDEN, was):
            holder[key] = was
        elif secret.literal(holder[key]):
            holder[key] = keep(*at, holder[key])


def _known(known: str, typed: str) -> str:
    return known if typed == HIDDEN else typed


def _names(data: dict[str, Any], kind: str, slug: str, env: Mapping[str, str]) -> Callable[[str, str], str]:
    """Gives a secret a variable that neither the environment has nor another object uses."""
    others = deepcopy(data)
    items, at, _, _ = place(others, kind, slug)
    if at is not None:
        del items[at]
    taken = {*secret.variables(others), *env}

    def name(of: str, what: str) -> str:
        first = found = secret.name(of, what)
        count = 1
        while found in taken:
            count += 1
            found = f"{first}_{count}"
        taken.add(found)
        return found

    return name
