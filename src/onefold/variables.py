"""Secrets that were typed into the app: `.onefold/secrets.env`, a part of the environment that files refer to.

What the real environment says goes before. The file is for its owner's eyes only, and no Git takes it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

FILE = "secrets.env"


def read(home: Path) -> dict[str, str]:
    """Name -> value; {} where there is no file. Lines of another kind are none of ours."""
    try:
        lines = (home / FILE).read_text().splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {name: json.loads(value) if value.startswith('"') else value for name, value in pairs}


def write(home: Path, found: Mapping[str, str]) -> None:
    """Keep these, and no others."""
    home.mkdir(mode=0o700, exist_ok=True)
    (home / ".gitignore").write_text("*\n")
    replace(home / FILE, "".join(f"{name}={json.dumps(value)}\n" for name, value in found.items()), mode=0o600)


def replace(file: Path, text: str, mode: int | None = None) -> None:
    """Write a file whole or not at all; it keeps its mode unless another is given."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    if mode is None:
        mode = file.stat().st_mode & 0o777 if file.exists() else 0o644
    try:
        with os.fdopen(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode), "w", newline="") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        fresh.chmod(mode)
        fresh.replace(file.resolve())
    finally:
        fresh.unlink(missing_ok=True)
