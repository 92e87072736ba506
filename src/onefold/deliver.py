"""Deliver calls to a remote endpoint, the other last step of a run: at least once, and never in doubt what is known.

Before a batch goes out its rows are written as OPEN, with the counters that give the calls their message ids. When it
is acknowledged they become what they are, in one turn with the counters of the run and the calls themselves. So a
run that is killed sends again at most what was not acknowledged, under the same message ids, unless the row has
changed: then only its newest version, under a new one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from time import time_ns
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onefold import endpoints, log, state
from onefold.endpoints import CALL_BYTES, LANES, Batch
from onefold.endpoints.tracking import Answer, Endpoint, Stopped
from onefold.errors import EndpointError, RowRejected
from onefold.ledger import Ledger
from onefold.rows import REJECTED, Mapped

if TYPE_CHECKING:
    from onefold.sync import Stages

CHUNK_ROWS = 25_000
# After so many batches that could not be delivered, with none taken between them, the endpoint is taken to be down.
MISSED = 3
DAY = 86_400_000_000  # µs
_OPEN = {"new": state.OPEN_NEW, "updated": state.OPEN_UPDATED, "deleted": state.OPEN_DELETED}


@dataclass(frozen=True)
class Remote:
    """Where a destination delivers to. `rate` is calls a second; failed deliveries are tried again for so long."""

    endpoint: str
    write_key: str
    rate: int | None = None
    days: int = 14
    runs: int = 5


class Deliver:
    """The last step of a run: its calls go to an endpoint. `records` gives rows as JSON, by their keys."""

    doing = "deliver"

    def __init__(
        self,
        remote: Remote,
        ledger: Ledger,
        source: str,
        records: Callable[[Sequence[str]], dict[str, str]],
        *,
        dry_run: bool = False,
    ) -> None:
        self.remote = remote
        self.ledger = ledger
        self.rows = CHUNK_ROWS
        self._source = source
        self._records = records
        self._dry_run = dry_run
        self._endpoint = Endpoint(remote.endpoint, remote.write_key)
        self._lanes = [ThreadPoolExecutor(1, f"lane-{lane}") for lane in range(LANES)]
        self._missed = 0
        self._failure: Exception | None = None
        self._failing: dict[str, tuple[int, int]] | None = None  # key -> since (µs), runs

    def __enter__(self) -> Deliver:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for lane in self._lanes:
            lane.shutdown()
        self._endpoint.close()

    def stop(self) -> None:
        """Begin nothing more; what is under way stays OPEN."""
        self._endpoint.stop()

    def ready(self, mapped: Mapped) -> pa.Array:
        """The calls as they go out."""
        return endpoints.wire(mapped.calls)

    def end(self) -> None:
        """Nothing is left to do: each batch was recorded when it was answered."""

    # --- a chunk --------------------------------------------------------------------------------------

    def chunk(self, mapped: Mapped, items: pa.Array, rows: int, clock: Stages) -> int:
        """Deliver a mapped chunk and record what became of each call. Returns how many rows it held.

        Raises EndpointError, StoreError; what was answered until then is recorded.
        """
        ledger = self.ledger
        ledger.counts.filtered += mapped.filtered
        sendable = pc.less_equal(pc.binary_length(items), CALL_BYTES).to_numpy(zero_copy_only=False)
        with clock.timed("deliver", rows):
            with ledger.turn():
                silent = np.ones(mapped.state.num_rows, bool)
                silent[mapped.places] = False
                ledger.remember(mapped.state.filter(silent))
                ledger.reject(mapped.rejected)
                large = np.flatnonzero(~sendable)
                self._settle(mapped, items, large, [_too_large(items[int(at)].as_py()) for at in large])
            if self._dry_run:
                ledger.counts.sent += int(sendable.sum())
            else:
                self._deliver(mapped, items, sendable)
        return rows

    def _deliver(self, mapped: Mapped, items: pa.Array, sendable: np.ndarray[Any, Any]) -> None:
        """Deliver what can be sent: up to two batches a lane are under way."""
        lanes = np.where(sendable, endpoints.lanes(mapped.calls), -1)
        most = min(endpoints.BATCH_CALLS, self.remote.rate or endpoints.BATCH_CALLS)
        waiting = deque(endpoints.batches(items, lanes, most))
        flying: dict[Future[list[Answer]], tuple[Batch, list[int]]] = {}
        while waiting or flying:
            while waiting and len(flying) < 2 * LANES and self._failure is None:
                batch = waiting.popleft()
                parts, starts = self._open(mapped, batch)
                texts = items.take(batch.places).to_pylist()
                flying[self._lanes[batch.lane].submit(self._endpoint.send, texts, starts)] = batch, parts
            if not flying:
                break
            for future in wait(flying, return_when=FIRST_COMPLETED).done:
                self._land(mapped, items, future, *flying.pop(future))
        if self._failure is not None:
            raise self._failure

    def _open(self, mapped: Mapped, batch: Batch) -> tuple[list[int], float]:
        """Write that a batch goes out. Returns the parts that say so, and when it may (seconds since the epoch)."""
        store, rows = self.ledger.store, mapped.state.take(mapped.places[batch.places])
        statuses = pa.array([_OPEN[event] for event in rows["event"].to_pylist()], pa.int64())
        rows = rows.set_column(rows.column_names.index("status"), "status", statuses)
        with self.ledger.turn():
            parts = self.ledger.append(rows)
            starts = 0.0
            if self.remote.rate:
                now = time_ns() // 1000
                # One timetable for all mappings of the destination, in whatever process they run.
                found = store.rows("select value from counter where name = 'slot'")
                slot = max(now, found[0]["value"] if found else 0)
                store.execute(
                    "insert into counter (name, value) values ('slot', $1)"
                    " on conflict (name) do update set value = excluded.value",
                    slot + len(batch.places) * 1_000_000 // self.remote.rate,
                )
                starts = slot / 1e6
        return parts, starts

    def _land(
        self, mapped: Mapped, items: pa.Array, future: Future[list[Answer]], batch: Batch, parts: list[int]
    ) -> None:
        """Record the answers to a batch; one without any stays open."""
        try:
            answers = future.result()
        except (EndpointError, Stopped) as error:
            if self._failure is None or isinstance(self._failure, Stopped):
                self._failure = error
            self.stop()
            return
        with self.ledger.turn():
            self.ledger.withdraw(parts)
            self._settle(mapped, items, batch.places, answers)
        missed = next((answer for answer in answers if answer is not None and answer.code == "not_delivered"), None)
        self._missed = self._missed + 1 if missed and None not in answers else 0
        if missed and self._missed >= MISSED and self._failure is None:
            self._failure = EndpointError(
                f"{missed}. Nothing more is sent; the next sync tries these rows again", code="not_delivered"
            )
            self.stop()

    # --- what became of calls -------------------------------------------------------------------------

    def _settle(self, mapped: Mapped, items: pa.Array, places: np.ndarray[Any, Any], answers: Sequence[Answer]) -> None:
        """Write what became of some calls: what is seen of their rows, the refused ones, the log. In a turn."""
        ledger = self.ledger
        rows = mapped.state.take(mapped.places[places])
        keys, events = rows["key"].to_pylist(), rows["event"].to_pylist()
        statuses = rows["status"].to_pylist()
        refused = {at: answer for at, answer in enumerate(answers) if answer is not None}
        self._despair(keys, refused)
        for at, answer in refused.items():
            statuses[at] = (_OPEN if answer.code == "not_delivered" else REJECTED)[events[at]]
            answer.call = items[int(places[at])].as_py()
        ledger.remember(rows.set_column(rows.column_names.index("status"), "status", pa.array(statuses, pa.int64())))
        records = self._records([keys[at] for at in refused]) if refused else {}
        ledger.reject([(keys[at], events[at], answer, records.get(keys[at])) for at, answer in refused.items()])
        taken = np.array([at for at in range(len(answers)) if at not in refused], np.int64)
        ledger.counts.sent += len(taken)
        self._log(mapped.calls.take(places[taken]))
        ledger.record()

    def _log(self, calls: pa.Table) -> None:
        """Keep the calls that were acknowledged, so that a run can be replayed."""
        if not calls.num_rows:
            return
        store, rows = self.ledger.store, calls.num_rows
        seq = store.counters()["seq"]
        nothing = pa.nulls(rows, pa.int64())
        lines = {
            "born": pa.array(np.zeros(rows, np.int64)),
            **dict.fromkeys(("user", "account", "user_identifiers", "account_identifiers"), nothing),
            "run": pa.repeat(pa.scalar(self.ledger.run, pa.int64()), rows),
            "source": pa.repeat(pa.scalar(store.names("source").add(self._source), pa.int64()), rows),
            "time": calls["timestamp"],
            **{name: calls[name] for name in ("message_id", "type", "event", "received_at", "traits", "body")},
        }
        log.append(store, seq, store.counters()["segment"], pa.table({name: lines[name] for name in log.COLUMNS}))
        store.execute("update counter set value = $1 where name = 'seq'", seq + rows)

    def _despair(self, keys: Sequence[str], refused: dict[int, RowRejected]) -> None:
        """Count the runs in which calls were not delivered; those that were tried long enough are given up."""
        store, mapping = self.ledger.store, self.ledger.header.mapping
        if self._failing is None:
            rows = store.rows("select key, since, runs from failing where mapping = $1", mapping)
            self._failing = {row["key"]: (row["since"], row["runs"]) for row in rows}
        now = time_ns() // 1000
        for at, key in enumerate(keys):
            missed = at in refused and refused[at].code == "not_delivered"
            if key in self._failing and not missed:
                del self._failing[key]
                store.execute("delete from failing where mapping = $1 and key = $2", mapping, key)
            if not missed:
                continue
            since, runs = self._failing.get(key, (now, 0))
            if runs >= self.remote.runs or now - since > self.remote.days * DAY:
                refused[at] = RowRejected("given_up", f"{refused[at]}; it was tried in {runs + 1} runs and is given up")
                store.execute("delete from failing where mapping = $1 and key = $2", mapping, key)
                continue
            self._failing[key] = since, runs + 1
            store.execute(
                "insert into failing (mapping, key, since, runs) values ($1, $2, $3, $4)"
                " on conflict (mapping, key) do update set runs = excluded.runs",
                *(mapping, key, since, runs + 1),
            )


def _too_large(item: str) -> RowRejected:
    size = len(item.encode())
    return RowRejected("call_too_large", f"the call has {size:,} bytes; at most {CALL_BYTES:,} are accepted")
