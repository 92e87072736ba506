"""The tracking API as a client: a batch is posted until it is taken, refused, or given up for now."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Event
from time import time
from typing import Any

from onefold import endpoints, secret
from onefold.errors import EndpointError, RowRejected

# A batch is tried so often; between two tries lie up to FIRST, 2 FIRST, 4 FIRST … seconds, LONGEST at most.
ATTEMPTS, FIRST, LONGEST = 8, 0.5, 30.0
# Who asks for more patience than this (seconds) is left alone until the next run.
PATIENCE = 300.0
CONNECTING, ANSWERING = 10.0, 60.0  # seconds
# After so many calls that were refused alone, with none taken between them, it is not the calls.
ALONE = 50
# Refused as a whole: some call in it may be the reason.
WHOLE = (400, 413)

Answer = RowRejected | None  # why a call was not taken


class Stopped(Exception):
    """The run ends; what was under way is not known to have arrived."""


class _Undelivered(Exception):
    """A batch that could not be delivered now; nothing is wrong with its calls."""


class Endpoint:
    """One remote endpoint with a write key; `send` may be called from several threads at once."""

    def __init__(self, endpoint: str, write_key: str) -> None:
        import httpx2

        self.address = endpoints.address(endpoint)
        self.name = secret.mask(self.address)
        self._client = httpx2.Client(
            auth=(write_key, ""),
            headers={
                "content-type": "application/json",
                "content-encoding": "gzip",
                "user-agent": "onefold",
            },
            timeout=httpx2.Timeout(ANSWERING, connect=CONNECTING),
            limits=httpx2.Limits(max_connections=endpoints.LANES),
        )
        self._failures: type[Exception] = httpx2.TransportError
        self._stopping = Event()
        self._quiet = 0.0  # nobody asks before this time
        self._alone = 0  # calls refused alone since one was taken

    def close(self) -> None:
        self._client.close()

    def stop(self) -> None:
        """Let no thread wait any longer: `send` raises Stopped."""
        self._stopping.set()

    def send(self, items: Sequence[str], starts: float = 0.0) -> list[Answer]:
        """Deliver calls (endpoints.wire) in order, not before `starts` (seconds since the epoch): the answer to each.

        A batch that is refused as a whole is halved until the calls that are to blame stand alone. Raises
        EndpointError if the endpoint takes nothing from us, Stopped.
        """
        self._wait(starts - time())
        answers: list[Answer] = [None] * len(items)
        waiting = [(0, len(items))]
        while waiting:
            start, stop = waiting.pop()
            try:
                refused = self._deliver(items[start:stop])
            except _Undelivered as error:
                for at in (at for begin, end in [(start, stop), *waiting] for at in range(begin, end)):
                    answers[at] = RowRejected("not_delivered", str(error))
                break
            if refused is None:
                self._alone = 0
            elif stop - start == 1:
                self._alone += 1
                answers[start] = RowRejected("refused", f"{self.name} refused the call: {refused}")
                if self._alone >= ALONE:
                    raise EndpointError(f"{self.name} refuses every call: {refused}", code="endpoint_refuses")
            else:
                middle = (start + stop) // 2
                waiting += [(middle, stop), (start, middle)]  # the first half goes first
        return answers

    def _deliver(self, items: Sequence[str]) -> str | None:
        """Post a batch until it has an answer: None if it was taken, else why not. Raises _Undelivered, Stopped."""
        body = gzip.compress(f'{{"batch":[{",".join(items)}]}}'.encode(), 5)
        why = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                # All of the time up to twice as much each time, so that many who wait do not come at once.
                self._wait(min(FIRST * 2 ** (attempt - 1), LONGEST) * random.uniform(0.5, 1))  # noqa: S311 - no secret
            self._wait(self._quiet - time())
            try:
                answer = self._client.post(self.address, content=body)
            except self._failures as error:
                why = re.sub(r"\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
                continue
            if answer.is_success:
                return None
            why = said(answer)
            if answer.status_code in WHOLE:
                return why
            if answer.status_code != 429 and answer.status_code < 500:
                raise self._no(answer.status_code, why)
            patience = retry_after(answer.headers.get("retry-after"))
            if patience > PATIENCE:
                raise _Undelivered(f"{self.name} answered {why} and asks to wait for {patience:,.0f} seconds")
            self._quiet = max(self._quiet, time() + patience)
        raise _Undelivered(f"{self.name} took nothing in {ATTEMPTS} attempts; in the last one: {why}")

    def _no(self, status: int, why: str) -> EndpointError:
        """An answer that more calls would get too."""
        if status in (401, 403):
            return EndpointError(
                f"{self.name} does not accept the write key ({why}); check engage_space: it is the write key of the"
                " profile source in that region, or the slug of a source that has it",
                code="write_key_refused",
            )
        return EndpointError(
            f"{self.name} answered {why}, so it is no tracking API; check settings.endpoint", code="endpoint_error"
        )

    def _wait(self, seconds: float) -> None:
        """Wait, unless the run ends. Raises Stopped."""
        if self._stopping.wait(max(seconds, 0.0)):
            raise Stopped


def said(answer: Any) -> str:
    """An answer in words: its status, and the sentence of its body."""
    text = answer.text.strip()
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if isinstance(body, dict):
        error = body.get("error")
        text = str(body.get("message") or (error.get("message") if isinstance(error, dict) else error) or text)
    text = " ".join(text.split())
    return f"HTTP {answer.status_code}" + (f", {text if len(text) <= 200 else text[:199] + '…'}" if text else "")


def retry_after(value: str | None) -> float:
    """The seconds that a Retry-After header asks for; 0 if it says nothing that can be read."""
    if not value:
        return 0.0
    if value.strip().isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
