"""One archive of a whole workspace, made while it is in use, and a workspace made of it.

The archive is a ZIP file that mirrors the workspace folder, with `manifest.json`: versions, numbers of rows, and the
SHA-256 of each file. Spaces, inbox and catalog lie in it as SQLite files, whatever database they came from, each packed
with Zstandard (`.zst`): 1 M profiles take 0.6 s so, and 3.6 s with what ZIP itself has.

All is copied as it was in one moment, in which nobody adds to the inbox or takes anything out of it. So a call that was
acknowledged before is in a space or still in the inbox, and each space says how far it has applied the inbox: a
restored workspace loses nothing and does nothing twice.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from time import time_ns
from typing import IO, Any

import pyarrow as pa

from onefold import document, processes, sessions, stores, times, variables, workspace
from onefold.catalog import HEAD, Catalog
from onefold.errors import InvalidWorkspace, OnefoldError, StoreError
from onefold.inbox import FILE as INBOX
from onefold.inbox import Inbox
from onefold.remote import REMOTE
from onefold.stores import STEPS, Store
from onefold.stores.copy import copy, demand_empty
from onefold.workspace import FILE, Workspace

FORMAT = 1
MANIFEST = "manifest.json"
HOME = ".onefold"
PACKED = ".zst"
PIECE = 1 << 20
Said = Callable[[str, int, int], None]  # what is at work, steps done, steps in all


class InvalidBackup(OnefoldError):
    """A file that is no backup, that is damaged, or that this version cannot read."""

    code = "invalid_backup"


# --- backup -------------------------------------------------------------------------------------------


def write(found: Workspace, file: Path, said: Said = lambda *_: None) -> dict[str, Any]:
    """Write a backup of a workspace into a new file, readable by its owner only; its manifest. Raises OnefoldError."""
    if file.exists():
        raise OnefoldError(f"{file} exists already; name a file that does not", code="file_exists")
    if not file.parent.is_dir():
        raise OnefoldError(f"there is no folder {file.parent} to write {file.name} in", code="not_found")
    with ExitStack() as stack, _space_left(file):
        open_stores = {slug: stack.enter_context(store) for slug, store in _stores(found)}
        work = stack.enter_context(processes.scratch(found.home / "tmp", "backup"))
        handle, part = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.", suffix=".part")  # with mode 0600
        stack.callback(Path(part).unlink, missing_ok=True)
        with os.fdopen(handle, "wb") as written:
            with zipfile.ZipFile(written, "w") as archive:
                manifest = _pack(found, _Packed(archive, len(open_stores) + 2, said), open_stores, work)
            os.fsync(written.fileno())
        Path(part).rename(file)
    return manifest


def _stores(found: Workspace) -> Iterator[tuple[str, Store]]:
    """The spaces that are configured, those detached whose file is still there, and what remote destinations keep."""
    configured = found.kept()
    for slug in configured:
        yield slug, found.space(slug)
    for file in sorted((found.home / "spaces").glob("*.db")):
        if file.stem not in configured:
            yield file.stem, stores.open("sqlite", file)


def _file(slug: str) -> str:
    """Where the store of a space or of a remote destination lies below HOME."""
    return f"{slug}.db" if slug.startswith(REMOTE) else f"spaces/{slug}.db"


class _Packed:
    """The archive as it is filled."""

    def __init__(self, archive: zipfile.ZipFile, steps: int, said: Said) -> None:
        self.archive = archive
        self.files: dict[str, dict[str, Any]] = {}
        self._steps, self._done, self._said = steps, 0, said

    def step(self, what: str) -> None:
        self._said(what, self._done, self._steps)
        self._done += 1

    def add(self, name: str, file: Path) -> None:
        """Put a file into the archive, with its size and checksum."""
        info = zipfile.ZipInfo.from_file(file, name, strict_timestamps=False)
        info.external_attr = 0o600 << 16
        with file.open("rb") as source, self.archive.open(info, "w", force_zip64=True) as target:
            if name.endswith(PACKED):
                with pa.CompressedOutputStream(target, "zstd") as packed:
                    self.files[name] = _copied(source, packed)
            else:
                self.files[name] = _copied(source, target)


def _pack(found: Workspace, packed: _Packed, open_stores: Mapping[str, Store], work: Path) -> dict[str, Any]:
    """Fill an archive; its manifest."""
    with ExitStack() as moment:

        def together() -> None:
            for store in open_stores.values():
                moment.enter_context(store.snapshot())

        packed.step("inbox")
        with closing(Inbox(found.home / INBOX)) as inbox:
            inbox_rows = {"id": inbox.id, "rows": inbox.copy(work / INBOX, together)}
        _move_in(packed, HOME, work / INBOX)
        packed.step("catalog")
        with closing(Catalog(work / "catalog.db")) as catalog:
            catalog_rows = {"version": HEAD, "rows": found.catalog.copy(catalog)}
        _move_in(packed, HOME, work / "catalog.db")
        spaces = {}
        for slug, store in open_stores.items():
            packed.step(f"space {slug}")
            file = work / _file(slug)
            with stores.open("sqlite", file) as target:
                copied = copy(store, target)
            spaces[slug] = {"store": store.engine.name, "schema": len(STEPS), "rows": copied}
            _move_in(packed, f"{HOME}/{file.parent.name}", file)
    outside = []
    for path in _typed(found):
        if path.is_relative_to(found.folder.resolve()):
            packed.add(path.relative_to(found.folder.resolve()).as_posix(), path)
        else:
            outside.append(str(path))
    manifest = {
        "format": FORMAT,
        "onefold": version("onefold"),
        "created_at": times.text(time_ns() // 1000),
        "workspace": found.applied.name,
        "catalog": catalog_rows,
        "inbox": inbox_rows,
        "spaces": spaces,
        "files": packed.files,
        "left_out": outside,
    }
    packed.archive.writestr(MANIFEST, json.dumps(manifest, indent=1))
    return manifest


def _move_in(packed: _Packed, folder: str, file: Path) -> None:
    """Put a database that nobody has open any more into the archive."""
    packed.add(f"{folder}/{file.name}{PACKED}", file)
    _clear(file.parent, itself=False)


def _typed(found: Workspace) -> Iterator[Path]:
    """The workspace file, the files with SQL that it names, and typed secrets; also where it could not be applied."""
    if (found.home / variables.FILE).is_file():
        yield (found.home / variables.FILE).resolve()
    file = found.folder / FILE
    if not file.is_file():
        return
    yield file.resolve()
    try:
        data, _ = document.parse(file.read_text(encoding="utf-8-sig"), FILE)
        models = data.get("models") or []
        names = [model["sql_file"] for model in models if isinstance(model.get("sql_file"), str)]
    except (InvalidWorkspace, UnicodeDecodeError, AttributeError, TypeError):
        return  # what is applied has the SQL too
    for name in dict.fromkeys(names):
        path = (found.folder / document.replace(name, found.env)[0]).resolve()
        if path.is_file():
            yield path


# --- restore ------------------------------------------------------------------------------------------


def restore(
    file: Path, folder: Path, env: Mapping[str, str], *, store: str | None = None, said: Said = lambda *_: None
) -> dict[str, Any]:
    """Make a workspace of a backup, in a folder that is empty or not there; its manifest. Raises OnefoldError.

    Spaces go where the configuration says, or into `store` (sqlite, or a PostgreSQL url), which then becomes the
    configuration. Where something fails, nothing is left in the folder.
    """
    with _opened(file) as archive:
        manifest = _manifest(archive, file)
        new = _demand_empty(folder)
        with _space_left(folder):
            try:
                steps = len(manifest["files"]) + 1
                for done, name in enumerate(manifest["files"]):
                    said(name, done, steps)
                    _extract(archive, name, manifest["files"][name], folder, file)
                said("databases", steps - 1, steps)
                _settle(folder, env, manifest, store)
            except BaseException:
                _clear(folder, itself=new)
                raise
    return manifest


@contextmanager
def _opened(file: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except FileNotFoundError:
        raise InvalidBackup(f"there is no file {file}", code="not_found") from None
    except zipfile.BadZipFile:
        raise InvalidBackup(f"{file} is not a backup that `onefold backup` wrote, or was cut off") from None
    except (IsADirectoryError, PermissionError) as error:
        raise InvalidBackup(f"{file} cannot be read: {(error.strerror or '').lower()}") from None


def _manifest(archive: zipfile.ZipFile, file: Path) -> dict[str, Any]:
    """What the archive says of itself. Raises InvalidBackup."""
    try:
        manifest = json.loads(archive.read(MANIFEST))
        made = manifest["format"]
        names = [PurePosixPath(name) for name in manifest["files"]]
    except (KeyError, ValueError, TypeError, zipfile.BadZipFile):
        raise InvalidBackup(f"{file} is not a backup that `onefold backup` wrote: it has no {MANIFEST}") from None
    if made > FORMAT or manifest["catalog"]["version"] > HEAD:
        raise InvalidBackup(f"{file} was written by Onefold {manifest['onefold']}, which is newer; upgrade this one")
    if any(name.is_absolute() or ".." in name.parts for name in names):
        raise InvalidBackup(f"{file} names files outside the workspace folder; do not trust it")
    found: dict[str, Any] = manifest
    return found


def _demand_empty(folder: Path) -> bool:
    """Whether the folder is not there yet. Raises OnefoldError where there is something in it."""
    if not folder.exists():
        return True
    if not folder.is_dir() or any(folder.iterdir()):
        raise OnefoldError(
            f"{folder.resolve()} is not an empty folder; name another one: onefold restore FILE DIR", code="not_empty"
        )
    return False


def _clear(folder: Path, *, itself: bool) -> None:
    for item in folder.iterdir() if folder.exists() else ():
        shutil.rmtree(item) if item.is_dir() else item.unlink()
    if itself:
        shutil.rmtree(folder, ignore_errors=True)


def _extract(archive: zipfile.ZipFile, name: str, told: dict[str, Any], folder: Path, file: Path) -> None:
    """Take a file out of the archive, as it was put in. Raises InvalidBackup."""
    path = folder / name.removesuffix(PACKED)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with archive.open(name) as stored, path.open("xb") as target:
            source = pa.CompressedInputStream(stored, "zstd") if name.endswith(PACKED) else stored
            found = _copied(source, target)
            target.flush()
            os.fsync(target.fileno())
    except (KeyError, zipfile.BadZipFile, EOFError):
        found = {}
    except OSError as error:
        if error.errno is not None:
            raise
        found = {}  # not what Zstandard wrote
    if found != told:
        raise InvalidBackup(f"{file} is damaged: {name} in it is not what was written; nothing was restored")


def _copied(source: IO[bytes], target: IO[bytes]) -> dict[str, Any]:
    """Copy a file; its bytes and SHA-256."""
    size, digest = 0, hashlib.sha256()
    while piece := source.read(PIECE):
        digest.update(piece)
        target.write(piece)
        size += len(piece)
    return {"bytes": size, "sha256": digest.hexdigest()}


def _settle(folder: Path, env: Mapping[str, str], manifest: Mapping[str, Any], store: str | None) -> None:
    """Bring the databases up to date, and to where they belong. Raises OnefoldError."""
    now = time_ns() // 1000
    with closing(Catalog(folder / HOME / "catalog.db")) as catalog:
        catalog.interrupted(now)
        sessions.end_all(catalog)
        data = catalog.configuration()
        if store is not None and data is not None:
            for space in data.get("spaces") or []:
                space["store"] = store
            catalog.configure(data, now, {})
        if env.get("ONEFOLD_CATALOG"):
            with closing(Catalog(env["ONEFOLD_CATALOG"])) as elsewhere:
                catalog.copy(elsewhere)
    if env.get("ONEFOLD_CATALOG"):
        (folder / HOME / "catalog.db").unlink()
    with closing(workspace.open(folder, env)) as found, ExitStack() as stack:
        configured = {space.slug: space.store for space in found.applied.spaces}
        files = {slug: found.home / _file(slug) for slug in manifest["spaces"]}
        for file in files.values():
            stores.open("sqlite", file).close()
        targets = {
            slug: stack.enter_context(_target(found, slug, configured[slug]))
            for slug in files
            if configured.get(slug, "sqlite") != "sqlite"
        }
        for slug, target in targets.items():
            with stores.open("sqlite", files[slug]) as source, source.snapshot():
                copy(source, target)
            for left in files[slug].parent.glob(f"{files[slug].name}*"):
                left.unlink()
        if env.get("ONEFOLD_CATALOG"):
            for slug in files:
                if slug.startswith(REMOTE):
                    found.space(slug).close()  # brings it to the catalog's database
                    files[slug].with_suffix(".moved").unlink()


def _target(found: Workspace, slug: str, where: str) -> Store:
    """The empty store that a space goes to. Raises StoreError."""
    if "${" in where:
        raise StoreError(
            f"space {slug} belongs in {where}, which is not set; set it, or restore into a file: --store sqlite",
            code="missing_variable",
        )
    target = found.space(slug)
    try:
        demand_empty(target)
    except StoreError as error:
        target.close()
        raise StoreError(
            f"space {target.engine.name} holds data already, and a restore never writes over any; restore into"
            " another database, or into a file: --store sqlite",
            code=error.code,
        ) from None
    return target


@contextmanager
def _space_left(place: Path) -> Iterator[None]:
    """A full disk, or a folder that may not be written, in a sentence."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "the disk is full; free some space and run it again" if full else (error.strerror or str(error)).lower()
        raise OnefoldError(
            f"{place} cannot be written: {why}. Nothing of it is kept", code="disk_full" if full else "cannot_write"
        ) from error
