"""A window: the next calls of a space, taken out of the inbox and made ready to be applied.

The resolver applies one window while the next is prepared beside it: in a process of its own where a server runs, which
all that is computed for a call then has a second core for, else in a thread. That side has the inbox for itself, and
keeps what it found out of a window (who was seen, what was rejected) until the resolver asks to note it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from time import gmtime, strftime
from typing import Any

import msgspec
import pyarrow as pa

from onefold import calls, canonical, config, garbage, telemetry
from onefold.calls import Arrival
from onefold.claims import DAY
from onefold.errors import OnefoldError, RowRejected, ValueRefused
from onefold.events import Selected, check, event, wrong
from onefold.inbox import Inbox, Refused, Request
from onefold.rules import Rules, identifying
from onefold.seen import digest
from onefold.tracked import ALONE, KNOWN, USER, Persons

# How many calls one window has at most, about. Where so many wait, they cost half as much together as 10,000 at a time:
# each page of a space that holds some of their profiles is written once.
BATCH = 30_000
# How deep a call may be nested: everything that reads it later must be able to.
DEPTH = 200
# How deep calls can be read here: deeper than the server, which takes in only what it can read itself.
READ_DEPTH = 3000
LOCK = "reader.lock"  # is held by the process of a reader while it lives
# What belongs to the request, not to the call.
_ENVELOPE = ("writeKey", "sentAt", "_metadata")


@dataclass(frozen=True)
class Feed:
    """What reaches a space from the inbox: its own sources, and the mappings of event destinations.

    `taken`: (profile source, path, mapping, profile source that its calls go to).
    """

    rules: Rules
    own: frozenset[str]
    taken: tuple[tuple[str, str, config.Mapping, str], ...] = ()


@dataclass(frozen=True)
class Prepared:
    """What a window comes to: calls (calls.SCHEMA) up to the request `last`, and none waits up to `upto`."""

    last: int
    upto: int
    calls: pa.Table


@dataclass(frozen=True)
class Why:
    """Why a call cannot be applied, as it can be told to another process."""

    code: str
    fields: Sequence[str]
    sentence: str


@dataclass
class _Window:
    """What was found out of a window and is not noted yet."""

    made: list[dict[str, Any]] = field(default_factory=list)
    origins: list[tuple[Request, int, str, Any, Arrival]] = field(default_factory=list)  # of `made`
    refused: list[Refused] = field(default_factory=list)
    persons: Persons = field(default_factory=lambda: defaultdict(set))
    sent: list[tuple[int, int, str]] = field(default_factory=list)


def feeds(applied: config.Workspace) -> dict[str, Feed]:
    """What reaches each space."""
    taken: dict[str, list[tuple[str, str, config.Mapping, str]]] = {space.slug: [] for space in applied.spaces}
    for destination in applied.destinations:
        if not destination.enabled or destination.endpoint != "local":
            continue
        for mapping in destination.mappings:
            reached = applied.profile_source(mapping.engage_space)
            if mapping.enabled and not mapping.model and reached is not None:
                path = f"{destination.slug}/{mapping.slug}"
                taken[reached[0].slug].append((destination.source, path, mapping, reached[1].slug))
    return {
        space.slug: Feed(Rules.of(space), frozenset(each.slug for each in space.sources), tuple(taken[space.slug]))
        for space in applied.spaces
    }


class Reader:
    """The side that has the inbox. Not shared between threads."""

    def __init__(self, file: Path) -> None:
        """Raises OnefoldError."""
        self._inbox = Inbox(file, durable=False)
        self.configure({})

    def configure(self, given: Mapping[str, Feed]) -> None:
        """Prepare for these spaces from now on; what was found out and is not noted yet is forgotten."""
        self._feeds = dict(given)
        self._selected: dict[str, dict[str, list[Selected]]] = {}
        self._windows: dict[tuple[str, int], _Window] = {}
        for slug, feed in given.items():
            found = self._selected.setdefault(slug, {})
            for source, path, mapping, to in feed.taken:
                found.setdefault(source, []).append(Selected(path, mapping, to))

    def close(self) -> None:
        self._inbox.close()

    def inbox_id(self) -> str:
        return self._inbox.id

    def prepare(self, slug: str, after: int) -> Prepared:
        """The next calls for a space, without those whose message id came before. Raises OnefoldError."""
        feed, selected = self._feeds[slug], self._selected[slug]
        requests, upto = self._inbox.read(sorted(feed.own | selected.keys()), after, BATCH)
        if not requests:
            return Prepared(after, upto, calls.SCHEMA.empty_table())
        read = list(self._messages(requests))
        repeated = self._inbox.claim(
            [
                (digest(request.source, arrival.message_id), request.received_at, request.seq, place)
                for request, place, _, arrival in read
                if request.only is None  # one that is sent again has its message id already
            ]
        )
        window = _Window()
        for each in read:
            request, place, *_ = each
            if (request.seq, place) in repeated:
                continue
            if request.source in feed.own and not request.only:
                _own(window, feed.rules, *each)
            for mapping in selected.get(request.source, ()):
                if request.only in (None, mapping.path):
                    _taken(window, feed.rules, mapping, *each)
        last = requests[-1].seq
        made = _table(window)
        self._windows[slug, last] = window
        return Prepared(last, upto, made)

    def note(self, slug: str, last: int) -> None:
        """Keep what was found out of a window. Raises OnefoldError."""
        for key in [key for key in self._windows if key[0] == slug and key[1] < last]:
            del self._windows[key]
        window = self._windows[slug, last]
        self._inbox.note(window.refused, window.persons, window.sent)

    def refuse(self, slug: str, last: int, found: Mapping[int, Why]) -> None:
        """Keep as rejected those calls of a window, by their rows, that could not be applied. Raises OnefoldError."""
        origins = self._windows[slug, last].origins
        self._inbox.note([refused(*origins[row], why) for row, why in found.items()], {}, ())

    def let_go(self, upto: int) -> None:
        """Delete requests that are applied; what nobody took is kept as rejected. Raises OnefoldError."""
        sources = {source for feed in self._feeds.values() for source in feed.own}
        paths = {path for feed in self._feeds.values() for _, path, *_ in feed.taken}
        stray = self._inbox.stray(upto, sources, paths)
        if stray:
            self._inbox.note([_unwanted(*each, sources) for each in self._messages(stray)], {}, ())
        self._inbox.retire(upto)

    def _messages(self, requests: Iterable[Request]) -> Iterator[tuple[Request, int, Any, Arrival]]:
        """Each call of the requests, with its place in its request."""
        for request in requests:
            for place, message in enumerate(messages(request)):
                given = message.get("messageId") if isinstance(message, dict) else None
                if type(given) is int:
                    given = str(given)
                # One made from the place is the same when the call is read again.
                name = given if isinstance(given, str) and given else f"{self._inbox.id}-{request.seq}-{place}"
                yield request, place, message, Arrival(request.source, request.received_at, name)


# --- a call -------------------------------------------------------------------------------------------


def _own(window: _Window, rules: Rules, request: Request, place: int, message: Any, arrival: Arrival) -> None:
    """A call of a source of the space itself."""
    try:
        check(message)
        window.made.append(shallow(calls.call(message, arrival, rules, canonical.encode_read)))
    except Exception as error:  # whatever is wrong with one call, the others go on
        window.refused.append(refused(request, place, "", message, arrival, rejection(error, request.source)))
        return
    window.origins.append((request, place, "", message, arrival))
    month = _month(request.received_at // DAY)
    user, anonymous = identifying(message.get("userId")), identifying(message.get("anonymousId"))
    if user:
        window.persons[month, request.source, USER].add(user)
    if anonymous:
        window.persons[month, request.source, KNOWN if user else ALONE].add(anonymous)


def _taken(
    window: _Window, rules: Rules, mapping: Selected, request: Request, place: int, message: Any, arrival: Arrival
) -> None:
    """A call that a mapping may make another of."""
    try:
        check(message)
        made = mapping.call(event(message, arrival), arrival, rules)
        if made is not None:
            shallow(made)
    except Exception as error:  # as above; a call that is wrong itself is told once, where it came in
        if isinstance(message, dict) and not wrong(message):
            why = rejection(error, request.source)
            window.refused.append(refused(request, place, mapping.path, message, arrival, why))
        return
    if made is not None:
        window.made.append(made)
        window.origins.append((request, place, mapping.path, message, arrival))
        window.sent.append((request.seq, place, mapping.path))


def _table(window: _Window) -> pa.Table:
    """The calls of a window as a table; one that has no place in it is rejected."""
    made, window.made = window.made, []
    try:
        return calls.table(made)
    except Exception:  # one of them is to blame
        origins, window.origins, parts = window.origins, [], [calls.SCHEMA.empty_table()]
        for call, origin in zip(made, origins, strict=True):
            try:
                parts.append(calls.table([call]))
                window.origins.append(origin)
            except Exception as error:
                window.refused.append(refused(*origin, rejection(error, origin[0].source)))
        return pa.concat_tables(parts).combine_chunks()


@lru_cache(8)
def _month(day: int) -> str:
    """`YYYY-MM` of a day since the epoch."""
    return strftime("%Y-%m", gmtime(day * 86_400))


def messages(request: Request) -> list[Any]:
    """The calls of a request, each with the outer context and integrations, and its type. Never fails."""
    try:
        body = canonical.read_any(request.body)
    except (ValueError, RecursionError):
        return [request.body.decode(errors="replace")]  # it is no call, and rejected as it is
    if request.type is not None:
        return [{**{key: item for key, item in body.items() if key not in _ENVELOPE}, "type": request.type}]
    outer = {key: body[key] for key in ("context", "integrations") if isinstance(body.get(key), dict)}
    batch: list[Any] = body["batch"]
    for message in batch:
        if isinstance(message, dict):
            for key, around in outer.items():
                inner = message.get(key)
                if isinstance(inner, dict | None):
                    message[key] = {**around, **(inner or {})}
            for key in _ENVELOPE:
                if key in message:
                    del message[key]
    return batch


def shallow(made: dict[str, Any]) -> dict[str, Any]:
    """A call in the shape of `calls.SCHEMA` that is not nested too deeply. Raises RowRejected."""
    for text in (made["body"], made["traits"] or ""):
        if text.count("{") + text.count("[") > DEPTH and canonical.depth(text) > DEPTH:
            raise RowRejected("invalid_field", f"the call is nested more than {DEPTH} levels deep")
    return made


def rejection(error: Exception, source: str) -> Why:
    """What is told of a call of a source that could not be applied."""
    if isinstance(error, RowRejected):
        return Why(error.code, error.fields, str(error))
    said = "the call holds a value that cannot be kept"
    if isinstance(error, RecursionError):
        said = f"the call is nested more than {DEPTH} levels deep"
    elif isinstance(error, ValueRefused):
        said += f": {error}"
    elif not isinstance(error, canonical.InvalidValue):
        telemetry.logger().error("call_failed", source=source, error=type(error).__name__)
    return Why("invalid_field", (), said)


def refused(request: Request, place: int, mapping: str, message: Any, arrival: Arrival, why: Why) -> Refused:
    """A rejected call as it is kept."""
    kind = message.get("type") if isinstance(message, dict) else None
    name = arrival.message_id[: calls.MAX_MESSAGE_ID]
    return Refused(
        *(request.seq, place, mapping, request.source, request.received_at),
        *(_printable(kind) if isinstance(kind, str) else None, _printable(name)),
        *(why.code, json.dumps(list(why.fields)), _printable(why.sentence), _kept(message)),
    )


def _printable(text: str) -> str:
    """A text without halves of surrogate pairs, which no file holds."""
    return text.encode(errors="replace").decode()


def _kept(message: Any) -> str:
    """The JSON of a rejected call; where that cannot be read again as it is, the JSON of a text that shows it."""
    try:
        text = msgspec.json.encode(message, enc_hook=float).decode()
        if canonical.depth(text) <= DEPTH and canonical.read(text) == message:
            return text
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        pass
    return json.dumps(json.dumps(message))


def _unwanted(request: Request, place: int, message: Any, arrival: Arrival, sources: set[str]) -> Refused:
    """A call that nobody takes any more."""
    if request.source in sources:
        said = f"the mapping {request.only} no longer takes calls of {request.source}"
        return refused(request, place, request.only or "", message, arrival, Why("mapping_removed", (), said))
    said = "the profile source was removed before the call was applied"
    return refused(request, place, request.only or "", message, arrival, Why("source_removed", (), said))


# --- beside -------------------------------------------------------------------------------------------


class ReaderDied(Exception):
    """The process of the reader is no more; what was not committed is still in the inbox."""


class Beside:
    """A reader beside the one who asks; it does one thing after another, in the order that they were asked for."""

    def __init__(self, do: Callable[..., Any]) -> None:
        """`do` takes the name of a method of Reader and what it is given."""
        self._do = do
        self._thread = ThreadPoolExecutor(1, "inbox")
        self.inbox_id: str = self.ask("inbox_id").result()

    def ask(self, method: str, *given: Any) -> Future[Any]:
        """What a method of Reader returns or raises; ReaderDied if it cannot be asked any more."""
        return self._thread.submit(self._do, method, *given)

    def prepare(self, slug: str, after: int) -> Future[Prepared]:
        return self.ask("prepare", slug, after)

    def close(self) -> None:
        self.ask("close").result()
        self._thread.shutdown()


def thread(file: Path) -> Beside:
    """A reader in a thread of this process. Raises OnefoldError."""
    reader = Reader(file)
    return Beside(lambda method, *given: getattr(reader, method)(*given))


def process(file: Path) -> Beside:
    """A reader in a process of its own, which ends with this one, however that ends. Raises OnefoldError."""
    ours, theirs = Pipe()
    # Not -m: what is sent between the two must be of the same module in both.
    program = "import sys; from onefold.window import main; main(sys.argv[1], int(sys.argv[2]))"
    words = [sys.executable, "-c", program, str(file), str(theirs.fileno())]
    subprocess.Popen(words, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)  # noqa: S603 - this same program
    theirs.close()

    def do(method: str, *given: Any) -> Any:
        try:
            ours.send((method, given))
            found, error = ours.recv()
        except (EOFError, OSError) as died:
            raise ReaderDied from died
        if error is not None:
            raise error
        return found

    return Beside(do)


def main(file: str, descriptor: int) -> None:
    """The process of a reader: it does what it is asked for at a pipe, until the other end is closed."""
    from filelock import FileLock

    telemetry.configure()
    sys.setrecursionlimit(READ_DEPTH)
    garbage.seldom()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all
    asked: Connection[Any, Any] = Connection(descriptor)
    reader: Reader | None = None
    # A reader whose resolver was killed may still be writing; two would take away each other's files.
    alone = FileLock(Path(file).with_name(LOCK))
    with alone, suppress(EOFError, ConnectionError):  # the one who asks is gone
        while True:
            method, given = asked.recv()
            answer: tuple[Any, OnefoldError | None]
            try:
                reader = reader or Reader(Path(file))
                answer = (getattr(reader, method)(*given), None)
            except OnefoldError as error:
                answer = (None, error)
            except Exception as error:
                telemetry.logger().exception("reader_failed")
                said = f"the inbox cannot be read: {type(error).__name__}"
                answer = (None, OnefoldError(said, code="reader_failed"))
            asked.send(answer)
