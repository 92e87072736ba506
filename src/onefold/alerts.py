"""Alerts: who is told when a sync went wrong, and what counts as wrong. Pure decisions; `notify.py` sends.

A rule that fires again and again is told once, then once a day with the number of times, and once when it is over.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import median
from typing import Any

from onefold import schedule, secret
from onefold.report import Part, found

AGAIN = 86_400_000_000  # µs between two messages of what goes on
# The volume of a run is compared with the median of so many runs before it, and of at least so many.
RUNS, FEWEST = 10, 3
DEFAULT = "run_failed"


@dataclass(frozen=True)
class When:
    """The rules of an alert. `rejected_above` and `volume_changed` in percent, `nothing_delivered` in seconds."""

    run_failed: bool = False
    run_partly: bool = False
    rejected_above: int | None = None
    volume_changed: int | None = None
    nothing_delivered: int | None = None


RULES = tuple(field.name for field in fields(When))


@dataclass(frozen=True)
class Email:
    """`server` is smtp://USER:PASSWORD@HOST:PORT, or smtps://."""

    server: str
    sender: str
    to: tuple[str, ...]


@dataclass(frozen=True)
class Webhook:
    url: str
    secret: str | None = None


@dataclass(frozen=True)
class Slack:
    url: str


@dataclass(frozen=True)
class Alert:
    """`mappings` are DEST/MAPPING; none: all there are."""

    slug: str
    name: str
    mappings: tuple[str, ...]
    when: When
    email: Email | None = None
    webhook: Webhook | None = None
    slack: Slack | None = None

    @property
    def channels(self) -> dict[str, Email | Webhook | Slack]:
        """What messages go through, by the key in the workspace file."""
        given = {"email": self.email, "webhook": self.webhook, "slack": self.slack}
        return {name: channel for name, channel in given.items() if channel is not None}

    def watches(self, mapping: str) -> bool:
        return not self.mappings or mapping in self.mappings


# --- the workspace file -------------------------------------------------------------------------------


def read(part: Part) -> Alert:
    alert = Alert(
        slug=part.slug(),
        name=part.name(),
        mappings=part.texts("mappings") or (),
        when=_when(part.part("when")) if "when" in part else When(**{DEFAULT: True}),
        email=_email(part.part("email")) if "email" in part else None,
        webhook=_webhook(part.part("webhook")) if "webhook" in part else None,
        slack=Slack(_url(part.part("slack"))) if "slack" in part else None,
    )
    if not alert.channels and not part.void:
        part.report.add(part.path, "an alert goes somewhere: give it email, webhook or slack")
    return alert


def _when(part: Part) -> When:
    silent = schedule.interval(part, "nothing_delivered", "24h") if "nothing_delivered" in part else None
    when = When(
        run_failed=part.flag("run_failed", default=False),
        run_partly=part.flag("run_partly", default=False),
        rejected_above=_percent(part, "rejected_above", 0, 99),
        volume_changed=_percent(part, "volume_changed", 1, 1_000_000),
        nothing_delivered=silent,
    )
    if when == When() and not part.void and not part.report.about(part.path):
        told = ", ".join(RULES)
        if not any(name in part for name in RULES):
            part.report.add(part.path, f"names no rule; there are {told}")
    return when


def _percent(part: Part, key: str, least: int, most: int) -> int | None:
    """A percentage: `5` or `5%`."""
    if key not in part:
        return None
    value = part.value[key]
    written = re.fullmatch(r"\s*([0-9]{1,7})\s*%?\s*", value) if isinstance(value, str) else None
    number = int(written[1]) if written else value
    if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
        if part.open(key):
            part.refuse(
                key, f"must be a percentage from {least} to {most}, found {found(part.report.typed(part.at(key)))}"
            )
        return None
    return number


def _email(part: Part) -> Email:
    server = part.text("server")
    if part.open("server") and server.strip() and not re.match(r"smtps?://[^/\s]", server):
        part.refuse("server", "must be an smtp:// or smtps:// URL, such as smtp://user:PASSWORD@mail.example.com:587")
    one = part.value.get("to")
    to = (part.text("to"),) if isinstance(one, str) else part.texts("to") or ()
    if not to and not part.void and not part.report.about(part.at("to")):
        part.report.add(part.path, "to is missing")
    sender = part.text("from")
    for key, address in (("from", sender), *(("to", address) for address in to)):
        if (
            part.open(key)
            and address.strip()
            and not re.fullmatch(r"[^@\r\n]+@[^@\s]+", address)
            and "${" not in address
        ):
            part.refuse(key, f"{address!r} is no e-mail address")
    return Email(server, sender, to)


def _webhook(part: Part) -> Webhook:
    return Webhook(_url(part), part.optional("secret"))


def _url(part: Part) -> str:
    url = part.text("url")
    if part.open("url") and url.strip() and not re.match(r"https?://[^/\s]", url):
        part.refuse("url", "must be an http(s) URL")
    return url


def facts(alert: Alert) -> dict[str, Any]:
    """An alert, for a plan; what is secret in it is masked there (`secrets`)."""
    when = _rules(alert.when)
    return {
        "name": alert.name,
        "mappings": alert.mappings,
        **{f"when.{name}": when[name] for name in RULES},
        "email.server": alert.email and alert.email.server,
        "email.from": alert.email and alert.email.sender,
        "email.to": alert.email and alert.email.to,
        "webhook.url": alert.webhook and alert.webhook.url,
        "webhook.secret": alert.webhook and alert.webhook.secret,
        "slack.url": alert.slack and alert.slack.url,
    }


def _rules(when: When) -> dict[str, Any]:
    """The rules as they are typed."""
    silent = when.nothing_delivered and schedule.told(when.nothing_delivered)
    return {name: silent if name == "nothing_delivered" else getattr(when, name) for name in RULES}


def secrets(alert: Alert) -> list[str]:
    """What nobody may read."""
    return [hidden for hidden in (alert.webhook and alert.webhook.secret, alert.slack and alert.slack.url) if hidden]


def view(alert: Alert) -> dict[str, Any]:
    """An alert to be shown: what it watches and where it tells, without secrets."""
    when = {name: said for name, said in _rules(alert.when).items() if said not in (None, False)}
    places = {
        "email": alert.email and ", ".join(alert.email.to),
        # Who knows where to post to may do so: no more than the host is shown.
        "webhook": alert.webhook and _HOST.sub("***", secret.mask(alert.webhook.url)),
        "slack": alert.slack and _HOST.sub("***", alert.slack.url),
    }
    return {
        "slug": alert.slug,
        "name": alert.name,
        "mappings": list(alert.mappings),
        "when": when,
        "to": {name: place for name, place in places.items() if place},
    }


# What comes behind the host of a URL.
_HOST = re.compile(r"(?<=[^/:]/).*|\?.*")


# --- what counts as wrong -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """A run that ended. `counts` as in ledger.Counts; `at` in µs.

    Of a `remote` one `sent` is what the endpoint acknowledged, and what it did not take is rejected.
    """

    run_id: str
    status: str
    counts: dict[str, int]
    at: int
    error: str | None = None
    remote: bool = False


Judged = dict[str, str | None]  # rule -> a sentence if it fires, None if all is well; absent: nothing can be said


def judge(when: When, run: Ended, before: Sequence[Ended]) -> Judged:
    """What the rules say of the run that ended last; `before` are the runs of its mapping before it, newest first."""
    judged: Judged = {}
    done = run.status in ("succeeded", "partly")
    if when.run_failed and run.status != "cancelled":
        judged["run_failed"] = f"the sync failed: {run.error or 'see its run'}" if run.status == "failed" else None
    sent, rejected = run.counts.get("sent", 0), run.counts.get("rejected", 0)
    if not done and not (run.status == "failed" and rejected):
        return judged  # what it would have done with its rows, nobody knows
    refused = "rejected or not delivered" if run.remote else "rejected"
    if when.run_partly:
        judged["run_partly"] = f"{rejected:,} rows were {refused}" if rejected else None
    if when.rejected_above is not None:
        share = 100 * rejected / (sent + rejected) if rejected else 0.0
        fires = share > when.rejected_above
        told = f"{share:.0f} % of the rows to be sent were {refused}: {rejected:,} of {sent + rejected:,}"
        judged["rejected_above"] = told if fires else None
    if when.volume_changed is not None and done:
        usual = [past.counts.get("extracted", 0) for past in before if past.status in ("succeeded", "partly")][:RUNS]
        if len(usual) >= FEWEST:
            judged["volume_changed"] = _volume(run.counts.get("extracted", 0), median(usual), when.volume_changed)
    return judged


def _volume(rows: int, usual: float, percent: int) -> str | None:
    if abs(rows - usual) * 100 <= usual * percent:
        return None
    word = "more" if rows > usual else "fewer"
    return f"the model gave {rows:,} rows, {word} by more than {percent} % than the usual {usual:,.0f}"


def silence(when: When, delivered: int, now: int) -> Judged:
    """What is to say of a mapping whose last call was `delivered` then, in µs: the rule is for the clock, not a run."""
    if when.nothing_delivered is None:
        return {}
    hours = (now - delivered) / 3_600_000_000
    silent = now - delivered > when.nothing_delivered * 1_000_000
    return {"nothing_delivered": f"nothing was delivered for {hours:,.1f} hours" if silent else None}


# --- when it is told ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Open:
    """A rule that fired: since when, how often, when that was told last. Times in µs."""

    since: int
    count: int
    told_at: int


FIRST, STILL, RECOVERED, TEST = "first", "still", "recovered", "test"


def step(before: Open | None, why: str | None, now: int) -> tuple[Open | None, str | None]:
    """What is open from now on, and what kind of message that makes, if any. `why`: as Judged has it."""
    if why is None:
        return None, RECOVERED if before else None
    if before is None:
        return Open(now, 1, now), FIRST
    if now - before.told_at < AGAIN:
        return Open(before.since, before.count + 1, before.told_at), None
    return Open(before.since, before.count + 1, now), STILL
