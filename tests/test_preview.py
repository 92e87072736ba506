"""Trying a mapping on one row: which one is read."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import onefold
from shop import IDENTIFY, Shop, mapping

# A model of a thousand rows; whoever reads its row 900 fails.
MODELS = {
    "duckdb": "select i as id, 'it''s ' || i as name, case when i = 900 then error('read') else i end as n"
    " from range(1000) t(i)",
    "postgres": "select i as id, 'it''s ' || i as name, 1 / (i - 900) as n from generate_series(0, 999) i",
}


class Far(Shop):
    """A shop whose mapping reads one of MODELS by a key."""

    def __init__(self, folder: Path, source: dict[str, Any], key: str) -> None:
        super().__init__(folder)
        self.source = source
        self.models = {"people": (key, MODELS[source["type"]])}
        self.mappings = [mapping(fields={**IDENTIFY, "timestamp": "2024-01-01", "traits": {}})]

    def write(self) -> None:
        super().write()
        file = self.folder / "onefold.yaml"
        data = json.loads(file.read_text())
        data["sources"] = [{"slug": "w", **self.source}]
        file.write_text(json.dumps(data))

    def tried(self, key: str) -> dict[str, Any]:
        with closing(onefold.open(self.folder)) as workspace:
            found: dict[str, Any] = workspace.test_mapping("d/people", key)["row"]
            return found


@pytest.fixture(params=["duckdb", "postgres"])
def source(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "duckdb":
        return {"type": "duckdb", "path": "w.duckdb"}
    return {"type": "postgres", "url": request.getfixturevalue("postgres_url")}


@pytest.mark.parametrize(("column", "key"), [("id", "500"), ("name", "it's 500"), ("name", '"it\'s 500"')])
def test_a_row_far_from_the_first_is_asked_for_by_its_key(
    tmp_path: Path, source: dict[str, Any], column: str, key: str
) -> None:
    shop = Far(tmp_path, source, column)
    shop.apply()
    assert shop.tried(key)["id"] == 500
