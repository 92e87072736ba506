"""What was seen before: message ids are claimed once a day, persons are counted once a month."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from multiprocessing import Pipe
from pathlib import Path
from random import Random

import filelock
import numpy as np
import pytest

from onefold import inbox, seen, window
from onefold.claims import DAY, Claim
from onefold.errors import OnefoldError
from onefold.inbox import FILE, Inbox
from onefold.seen import digest
from onefold.tracked import ALONE, KNOWN, USER, Persons


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / FILE


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few entries make a file, and few fill it."""
    monkeypatch.setattr(seen, "FRESH", 50)
    monkeypatch.setattr(seen, "FULL", 200)


def files(file: Path) -> list[str]:
    return sorted(path.name for path in (file.parent / seen.FOLDER).glob("*"))


def windows(random: Random, number: int) -> Iterator[list[Claim]]:
    """Windows of calls in order of arrival over four days, a third of whose message ids came before."""
    at, names = 10 * DAY, ["first"]
    for seq in range(number):
        window = []
        for place in range(random.randrange(1, 30)):
            at += random.randrange(8 * DAY // (number * 15))
            if random.random() < 0.67:
                names.append(f"message {len(names)}")
            window.append((digest(names[-1 - min(int(random.expovariate(0.02)), len(names) - 1)]), at, seq, place))
        yield window


class Model:
    """What `claim` does, one call after another."""

    def __init__(self) -> None:
        self.owners: dict[bytes, tuple[int, int, int]] = {}

    def claim(self, window: list[Claim]) -> set[tuple[int, int]]:
        repeated = set()
        for name, at, seq, place in window:
            owner = self.owners.get(name)
            if owner is None or at - owner[0] >= DAY:
                self.owners[name] = (at, seq, place)
            elif owner[1:] != (seq, place):
                repeated.add((seq, place))
        return repeated


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("seed", range(5))
def test_a_message_id_is_claimed_once_a_day_by_the_call_that_had_it_first(file: Path, seed: int) -> None:
    random, model, box, before = Random(seed), Model(), Inbox(file), 0
    for asked in windows(random, 120):
        expected = model.claim(asked)
        assert box.claim(asked) == expected
        before += bool(expected)
        if random.random() < 0.2:  # a reader that died is followed by another, which claims the same again
            box.close()
            box = Inbox(file)
            assert box.claim(asked) == expected
    box.close()
    assert before > 20
    assert len(files(file)) > 1
    with closing(Inbox(file)) as box:
        kept = {what: rows for what, rows, _ in box.sizes()}
    assert kept["message"] < len(model.owners), "what came long ago is let go of"


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("seed", range(5))
def test_a_person_counts_once_a_month_and_not_by_an_anonymous_id_that_came_with_a_user_id(
    file: Path, seed: int
) -> None:
    random, box = Random(seed), Inbox(file)
    users, anonymous, known = set(), set(), set()
    for _ in range(60):
        persons: Persons = {}
        for _ in range(random.randrange(20)):
            of = random.choice(("2026-10", "2026-11")), random.choice("ab")
            what, name = random.choice((USER, ALONE, KNOWN)), f"id {random.randrange(200)}"
            persons.setdefault((*of, what), set()).add(name)
            {USER: users, ALONE: anonymous, KNOWN: known}[what].add((*of, name))
        box.note([], persons, [])
        if random.random() < 0.2:
            box.note([], persons, [])
            box.close()
            box = Inbox(file)
    expected = {(month, source): 0 for month, source, _ in users | anonymous | known}
    for one_of in (users, anonymous - known):
        for month, source, _ in one_of:
            expected[month, source] += 1
    assert {(month, source): number for month, source, number in box.persons()} == expected
    box.close()
    assert files(file)


def test_what_another_space_is_ahead_with_takes_no_message_id_from_what_came_before(file: Path) -> None:
    first, much_later = (digest("a"), 10 * DAY, 1, 0), (digest("a"), 12 * DAY, 2, 0)
    with closing(Inbox(file)) as box:
        assert box.claim([much_later]) == set()
        assert box.claim([first]) == set()
        assert box.claim([first, much_later]) == set()
        assert box.claim([(digest("a"), 10 * DAY + 1, 1, 1)]) == {(1, 1)}


def claimed(file: Path, first: int, number: int, at: int = 10 * DAY) -> set[tuple[int, int]]:
    """Claim so many message ids, from the one of some number on, as the calls of a request of that number."""
    with closing(Inbox(file)) as box:
        return set(box.claim([(digest(str(name)), at, first, name) for name in range(first, first + number)]))


@pytest.mark.usefixtures("small")
def test_files_that_are_like_each_other_become_one_until_they_are_full(file: Path) -> None:
    for first in range(0, 300, 50):
        claimed(file, first, 50)
    assert files(file) == ["message-5", "message-6"], "the first took in what came until it had 200"
    assert (file.parent / seen.FOLDER / "message-5").stat().st_size == 250 * seen.BYTES


@pytest.mark.usefixtures("small")
def test_a_file_goes_when_all_of_it_is_too_old(file: Path) -> None:
    claimed(file, 0, 250)
    claimed(file, 1000, 50, at=12 * DAY)
    assert files(file) == ["message-2"]
    assert claimed(file, 0, 1, at=12 * DAY) == set()


@pytest.mark.usefixtures("small")
def test_killed_while_it_makes_a_file_the_next_one_makes_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = seen.Seen._write

    def killed(self: seen.Seen, number: int, made: seen.Numbers) -> None:
        original(self, number, made[:, :7])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(seen.Seen, "_write", killed)
        with pytest.raises(KeyboardInterrupt):
            claimed(file, 0, 60)
    assert files(file) == ["message-1"]
    with closing(Inbox(file)) as box:
        assert box.claim([(digest("0"), 10 * DAY, 5, 5)]) == {(5, 5)}
    assert files(file) == ["message-1"], "made anew"
    assert (file.parent / seen.FOLDER / "message-1").stat().st_size == 60 * seen.BYTES


def test_what_was_rolled_back_was_not_seen(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = (digest("a"), 10 * DAY, 1, 0)
    with closing(Inbox(file)) as box:
        with monkeypatch.context() as patched:
            patched.setattr(inbox, "DUPLICATE", object())  # which no column holds
            with pytest.raises(OnefoldError, match="cannot be written"):
                box.claim([message, (message[0], message[1], 2, 0)])
        assert box.claim([(message[0], message[1], 3, 0)]) == set(), "nobody has the message id"


def test_a_full_disk_is_told_and_nothing_is_lost(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "FRESH", 50)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(seen.Seen, "_write", full)
        with pytest.raises(OnefoldError, match="No space left") as caught:
            claimed(file, 0, 60)
    assert caught.value.code == "inbox_error"
    assert claimed(file, 0, 60) == set(), "the same calls have them still"
    with closing(Inbox(file)) as box:
        assert len(box.claim([(digest(str(name)), 10 * DAY, 7, name) for name in range(60)])) == 60


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("cut", [None, 7])
def test_an_inbox_that_was_put_back_without_a_file_goes_on_with_what_there_is(file: Path, cut: int | None) -> None:
    claimed(file, 0, 250)
    claimed(file, 1000, 60)
    lost = file.parent / seen.FOLDER / "message-1"
    lost.unlink() if cut is None else lost.write_bytes(lost.read_bytes()[:cut])
    with closing(Inbox(file)) as box:
        assert box.claim([(digest("1001"), 10 * DAY, 5000, 0), (digest("0"), 10 * DAY, 5000, 1)]) == {(5000, 0)}
    assert files(file) == ["message-2"]


@pytest.mark.usefixtures("small")
def test_a_file_goes_once_it_is_on_disk_that_another_has_what_it_held(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed(file, 0, 50)
    with closing(Inbox(file, durable=False)) as box:
        ways: list[int] = []
        monkeypatch.setattr(box._claims._seen, "_turn", _noting(box, ways))
        box.claim([(digest(str(name)), 10 * DAY, name, 0) for name in range(50, 100)])
        (after,) = box._db.execute("pragma synchronous").fetchone()
    assert files(file) == ["message-2"]
    assert (ways, after) == ([2], 1), "fully synchronous for that, and no longer"


def test_what_was_found_out_of_calls_is_on_disk_before_a_space_has_them(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Inbox(file, durable=False)) as box:
        ways: list[int] = []
        monkeypatch.setattr(box, "_turn", _noting(box, ways))
        box.claim([(digest("a"), 10 * DAY, 1, 0)])
        box.note([], {}, [])
    assert ways == [1, 2], "claims are written with the notes, at the latest"


def _noting(box: Inbox, ways: list[int]) -> seen.Turn:
    original = box._turn

    def turn() -> AbstractContextManager[sqlite3.Connection]:
        ways.extend(*box._db.execute("pragma synchronous"))
        return original()

    return turn


def test_a_reader_opens_the_inbox_when_the_one_before_it_has_ended(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []

    class Lock:
        def __init__(self, at: Path) -> None:
            steps.append(at.name)

        def __enter__(self) -> None:
            steps.append("opened before" if file.exists() else "waited")

        def __exit__(self, *_: object) -> None:
            steps.append("ended")

    monkeypatch.setattr(filelock, "FileLock", Lock)
    monkeypatch.setattr(window.signal, "signal", lambda *_: None)
    monkeypatch.setattr(window.telemetry, "configure", lambda: None)
    monkeypatch.setattr(window.sys, "setrecursionlimit", lambda _: None)
    monkeypatch.setattr(window.garbage, "seldom", lambda: None)
    ours, theirs = Pipe()
    ours.send(("inbox_id", ()))
    ours.send(("close", ()))
    ours.close()
    window.main(str(file), os.dup(theirs.fileno()))
    assert steps == ["reader.lock", "waited", "ended"]
    assert file.exists()


@pytest.mark.usefixtures("small")
def test_a_copy_needs_no_files(file: Path, tmp_path: Path) -> None:
    claimed(file, 0, 130)
    claimed(file, 500, 20)
    copied = tmp_path / "copy" / FILE
    copied.parent.mkdir()
    with closing(Inbox(file)) as box:
        numbers = box.copy(copied, lambda: None)
    assert (numbers["seen"], numbers["seen_file"]) == (4, 0)
    with closing(Inbox(copied)) as box:
        names = [*range(130), *range(500, 520), 999]
        found = box.claim([(digest(str(name)), 10 * DAY, 1000, name) for name in names])
    assert found == {(1000, name) for name in names[:-1]}


def test_an_inbox_with_tables_of_a_row_each_is_brought_up(file: Path) -> None:
    with closing(sqlite3.connect(file)) as old:
        old.executescript(inbox.SCHEMA)
        old.executemany(
            "insert into message values (10, ?, ?, ?, 0)",
            [(digest(str(name)), 10 * DAY, name) for name in range(100)],
        )
        old.executemany(
            "insert into person values ('2026-11', 'web', ?, ?, ?)",
            [(is_user, digest(name), known) for name, is_user, known in (("a", 1, 1), ("b", 0, 0), ("c", 0, 1))],
        )
        old.commit()
    with closing(Inbox(file)) as box:
        assert box.persons() == [("2026-11", "web", 2)]
        box.note([], {("2026-11", "web", USER): {"a", "new"}, ("2026-11", "web", KNOWN): {"b", "c"}}, [])
        assert box.persons() == [("2026-11", "web", 2)], "one more, and one of whom the user id is known now"
        again = [(digest(str(name)), 10 * DAY, 200, name) for name in range(100)]
        assert box.claim(again) == {(200, name) for name in range(100)}
        assert box.claim([(digest("7"), 10 * DAY, 7, 0)]) == set()


def test_keys_that_begin_alike_are_not_the_same(file: Path) -> None:
    one, other = b"\1" * 15 + b"\1", b"\1" * 15 + b"\2"
    with closing(Inbox(file)) as box:
        assert box.claim([(one, 10 * DAY, 1, 0), (other, 10 * DAY, 1, 1)]) == set()
        assert box.claim([(other, 10 * DAY, 2, 0)]) == {(2, 0)}
    assert np.array_equal(np.sort(list(seen.twice(seen.keys([one, other])))), [0, 1])
