"""`onefold usage --storage`: what takes how much."""

from __future__ import annotations

import json
from pathlib import Path

import onefold
from live import AUTH, Live, client
from shop import Shop, command


def test_each_thing_that_is_kept_has_its_rows_and_bytes(tmp_path: Path, database: str) -> None:
    shop = Shop(tmp_path / "shop", database)
    shop.people((1, "ada@x", "pro"), (2, "bob@x", "free"), (None, "nobody@x", "free"))
    shop.apply()
    shop.sync()
    workspace = onefold.open(shop.folder)
    lines = {(line["where"], line["what"]): line for line in workspace.storage()}
    with workspace.space("production") as store:
        whole = sum(row["bytes"] for row in store.rows(store.engine.dialect.sizes))
    workspace.close()
    rows = {what: line["rows"] for (where, what), line in lines.items() if where == "space production"}
    assert (rows["call log"], rows["identifiers"], rows["rejected rows"], rows["runs"]) == (2, 4, 1, 1)
    found = [line["bytes"] for (where, what), line in lines.items() if where == "space production"]
    assert sum(found) >= whole > 0, "nothing of the space is left out"
    assert lines["catalog", "all"]["bytes"] > 0
    assert lines["tmp", "runs under way"]["bytes"] == 0


def test_what_waits_in_the_inbox_is_counted(tmp_path: Path) -> None:
    live = Live(tmp_path / "live")
    with client(live) as sent:
        sent.post("/v1/track", json={"event": "x", "userId": "ada"}, auth=AUTH)
        said = command("usage", "--storage", "--json", cwd=live.folder)
    lines = [json.loads(line) for line in said.stdout.splitlines()]
    (waiting,) = [line for line in lines if line["what"] == "requests that wait"]
    assert (waiting["where"], waiting["rows"]) == ("inbox", 1)
    assert waiting["bytes"] is None or waiting["bytes"] > 0
    table = command("usage", "--storage", cwd=live.folder).stdout
    assert table.splitlines()[-1].startswith("in all")
