"""A workspace with profiles worth reading, and a client that asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from starlette.applications import Starlette
from starlette.testclient import TestClient

import onefold
from onefold.api import configuration, profile
from shop import IDENTIFY, Shop, mapping

GROUP = {
    "engage_space": "wp",
    "user_id": {"@path": "$.properties.person"},
    "group_id": {"@path": "$.properties.company"},
    "traits": {"industry": {"@path": "$.properties.industry"}},
    "timestamp": "2024-02-01T00:00:00Z",
}
TRACK = {
    "engage_space": "wp",
    "user_id": {"@path": "$.properties.person"},
    "event_name": {"@path": "$.properties.what"},
    "group_id": {"@path": "$.properties.company"},
    "timestamp": {"@path": "$.properties.at"},
    "properties": {"order": {"@path": "$.properties.id"}},
}
EVENTS = 12


def stocked(folder: Path, store: str = "sqlite") -> Shop:
    """Two people: 1 is two segments that an e-mail merged, twelve events and the company acme; 2 is plain."""
    shop = Shop(folder, store)
    shop.people((1, "ada@x", "pro"), (2, "odd+one/two:three%@x", None))
    shop.sql(
        "create table app (id integer, device varchar, email varchar, system varchar, seen timestamp)",
        "insert into app values (1, 'device-1', null, 'android', '2024-02-29'),"
        " (2, 'device-1', 'ada@x', 'ios', '2024-03-01')",
        "create table companies (person integer, company varchar, industry varchar)",
        "insert into companies values (1, 'acme', 'steel'), (2, 'acme', 'steel')",
        "create table events as select i as id, 1 as person, 'acme' as company,"
        " case when i % 3 = 0 then 'Page Viewed' else 'Order Completed' end as what,"
        f" timestamp '2024-05-01' + to_days(i::integer) as at from range({EVENTS}) t(i)",
    )
    for name, key in {"app": "id", "companies": "person", "events": "id"}.items():
        shop.models[name] = (key, f"select * from {name} order by 1")
    traits = {"email": {"@path": "$.properties.email"}, "system": {"@path": "$.properties.system"}}
    device = {**IDENTIFY, "anonymous_id": {"@path": "$.properties.device"}, "traits": traits}
    del device["user_id"]
    shop.mappings = [
        mapping(),
        mapping("app", fields=device),
        mapping("companies", action="sendGroup", fields=GROUP),
        mapping("events", action="sendTrack", fields=TRACK),
        mapping("off", model="people", enabled=False),
    ]
    shop.apply()
    shop.sync()
    return shop


class Asked:
    """A client of the Profile API with a token of the space, and one of the configuration API with an admin's."""

    def __init__(self, workspace: onefold.Workspace) -> None:
        self.workspace = workspace
        self.app = Starlette(routes=[*profile.routes(workspace), *configuration.routes(workspace)])
        self.client = TestClient(self.app, base_url="http://127.0.0.1:8000")
        self.token = workspace.create_token("production")["token"]
        self.admin = {"Authorization": f"Bearer {workspace.create_token(None)['token']}"}

    def get(self, path: str, **options: Any) -> httpx2.Response:
        """GET a path below the collections of the space."""
        url = f"/v1/spaces/production/collections/{path}"
        return self.client.get(url, **{"auth": (self.token, ""), **options})

    def read(self, path: str) -> Any:
        """What a GET answers that succeeds."""
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def pages(self, path: str) -> list[Any]:
        """What the answers are, from page to page, by following the cursors."""
        found = [self.read(path)]
        while found[-1]["cursor"]["has_more"]:
            answer = self.client.get(found[-1]["cursor"]["url"], auth=(self.token, ""))
            assert answer.status_code == 200, answer.text
            found.append(answer.json())
        return found

    def api(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """A request to the configuration API."""
        headers = {**self.admin, **options.pop("headers", {})}
        return self.client.request(method, f"/api/{path}", headers=headers, **options)


@contextmanager
def asking(folder: Path) -> Iterator[Asked]:
    workspace = onefold.open(folder)
    try:
        yield Asked(workspace)
    finally:
        workspace.close()
