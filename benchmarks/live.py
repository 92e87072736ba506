"""Small batches and single reads, in process, in the space that a first sync made.

Each function is to run in a process of its own (`process.call`) and returns the milliseconds of each time. One more
goes before those that are measured: a server has been asked before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from time import perf_counter, time_ns
from typing import Any

import onefold
from onefold import calls, profiles
from onefold.apply import apply
from onefold.calls import Arrival
from onefold.rules import USERS

SPACE = "production"


def batches(folder: str, rows: int, size: int, times: int) -> list[float]:
    """Apply so many batches of `size` calls to a space of `rows` profiles, each with its commit.

    90 % identify a known profile and change one or two traits, 5 % identify a new one, 5 % track.
    """
    random = Random(size)
    workspace = onefold.open(Path(folder))
    rules = workspace.rules(SPACE)
    now = time_ns() // 1000
    found = []
    with workspace.space(SPACE) as store:
        for batch in range(times + 1):
            made = []
            for number in range(size):
                name = f"{size}-{batch}-{number}"
                made.append(calls.call(_message(random, rows, name), Arrival("wp", now, name), rules))
            table = calls.table(made)

            def turn(table: Any = table) -> None:
                with store.turn():
                    apply(store, table, rules)

            found.append(_milliseconds(turn))
    workspace.close()
    return found[1:]


def _message(random: Random, rows: int, name: str) -> dict[str, Any]:
    """A call as an SDK sends it; `name` is its own among all calls."""
    known = random.randrange(rows)
    person: dict[str, Any] = {"userId": str(known), "anonymousId": _device(known)}
    kind = random.random()
    if kind < 0.05:
        traits = {"email": f"{name}@example.com", "plan": "free"}
        return {"type": "identify", "userId": f"new-{name}", "anonymousId": f"device-{name}", "traits": traits}
    if kind < 0.1:
        return {"type": "track", "event": "Order Completed", "properties": {"total": random.randrange(1000)}, **person}
    changes: dict[str, Any] = {"plan": random.choice(["free", "pro", "team"]), "mrr": random.randrange(1000)}
    names = random.sample(list(changes), random.choice([1, 2]))
    return {"type": "identify", "traits": {name: changes[name] for name in names}, **person}


def reads(folder: str, rows: int, times: int) -> list[float]:
    """Read so many whole profiles of a space of `rows`, each by a random one of its identifiers."""
    random = Random(rows)
    workspace = onefold.open(Path(folder))
    rules = workspace.rules(SPACE)
    found = []
    with workspace.space(SPACE) as store:
        for _ in range(times + 1):
            number = random.randrange(rows)
            identifiers = {
                "user_id": str(number),
                "anonymous_id": _device(number),
                "email": f"user{number}@example.com",
            }
            kind = random.choice(list(identifiers))
            view: list[dict[str, Any] | None] = []

            def read(kind: str = kind, value: str = identifiers[kind], view: Any = view) -> None:
                view.append(profiles.read(store, USERS, kind, value, rules))

            found.append(_milliseconds(read))
            assert view[0] is not None
            assert len(view[0]["external_ids"]) == len(identifiers)
    workspace.close()
    return found[1:]


def _device(number: int) -> str:
    """The device of a row, as the warehouse makes it."""
    return hashlib.md5(f"device{number}".encode(), usedforsecurity=False).hexdigest()


def _milliseconds(work: Callable[[], None]) -> float:
    start = perf_counter()
    work()
    return (perf_counter() - start) * 1000
