"""The peer: the engine that maps rows in Segment itself, from the public npm package, with the same mapping and rows.

It only maps: reading, comparing, resolving and writing are not in its seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from benchmarks import process
from benchmarks.measured import Measured, Unavailable

# Exact, so that figures can be compared. liquidjs is needed by the package, and missing from its own list.
PACKAGES = ["@segment/actions-core@3.170.0", "liquidjs@10.30.1"]
# It takes one event after another: more of them change nothing.
ROWS = 100_000
SCRIPT = Path(__file__).with_name("peer.cjs")


def measure(folder: Path, rows: int) -> Measured:
    """Map the first rows of the warehouse in a folder. Raises Unavailable."""
    node = shutil.which("node")
    if node is None:
        raise Unavailable("Node.js is not installed")
    packages = _installed()
    events, mapping = folder / "events.jsonl", folder / "mapping.json"
    fields = process.call("warehouse.events", str(folder), min(rows, ROWS), str(events))[0]
    mapping.write_text(json.dumps(fields))
    try:
        ran = process.run(node, str(SCRIPT), str(packages), str(events), str(mapping))
    except RuntimeError as error:
        raise Unavailable(f"the package does not run in this Node.js ({error})") from error
    said = json.loads(ran.output)
    if set(said["last"]["traits"]) != set(fields["traits"]):
        raise RuntimeError(f"the peer made something else of the mapping: {said['last']}")
    return Measured("peer: actions-core, mapping alone", said["rows"], said["seconds"], ran.memory_mb)


def _installed() -> Path:
    """The folder where npm put the packages; kept for the next time. Raises Unavailable."""
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("npm is not installed")
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onefold-bench"
    folder.mkdir(parents=True, exist_ok=True)
    words = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--prefer-offline", *PACKAGES]
    try:
        subprocess.run(words, check=True, capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"npm could not install {PACKAGES[0]} ({error})") from error
    return folder
