"""Tells people of alerts: by e-mail, a signed webhook, or Slack.

What is to be told is first written to the catalog, then sent: a message that cannot be sent holds up nobody, is tried
again by whoever comes next (a run, or `serve` every minute), and says what the other side answered.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import asdict
from email.errors import MessageError
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from threading import Thread
from time import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from onefold import alerts, times
from onefold.alerts import FIRST, RECOVERED, RUNS, STILL, TEST, Alert, Email, Ended, Judged, Open, Slack, Webhook
from onefold.catalog import Message, Rule, Run
from onefold.errors import OnefoldError
from onefold.nearest import pick
from onefold.remote import REMOTE
from onefold.runs import SYNC, Runs, now

if TYPE_CHECKING:
    from onefold.workspace import Workspace

TIMEOUT = 10.0  # seconds that the other side has to answer
PATIENCE = 15.0  # seconds that a command waits at its end for what is being sent
MINUTE = 60_000_000  # µs
# After so many minutes a message is tried again; the last of these goes on for about a day.
DELAYS = (1, 5, 15, 60)
TRIES = 26
_OVER = {
    "run_failed": "the sync succeeds again",
    "run_partly": "no rows are rejected any more",
    "rejected_above": "the share of rejected rows is as it should be again",
    "volume_changed": "the model gives about as many rows as usual again",
    "nothing_delivered": "calls are delivered again",
}
log = logging.getLogger("onefold.alerts")


class NotSent(OnefoldError):
    """The other side did not take a message; the sentence says what it answered."""

    code = "not_sent"


# --- what is told -------------------------------------------------------------------------------------


class Notifier:
    """Judges runs as they end and sends in the background what that gives; never fails, never waits for long."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._thread: Thread | None = None

    def ended(self, run_id: str) -> None:
        """Judge a run that has ended."""
        try:
            if not self._workspace.applied.alerts:
                return
            judge_run(self._workspace, self._workspace.catalog.run(run_id))
        except OnefoldError as error:
            log.warning("alerts could not be looked at: %s", error)
            return
        if self._thread is None or not self._thread.is_alive():
            self._thread = Thread(target=deliver, args=(self._workspace,), name="alerts", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Let what is being sent arrive; what does not in time stays to be sent."""
        if self._thread is not None:
            self._thread.join(PATIENCE)


def judge_run(workspace: Workspace, run: Run) -> None:
    """Take up what the alerts say of a run that ended. Raises StoreError."""
    watching = [alert for alert in workspace.applied.alerts if alert.watches(run.mapping)]
    if watching:
        before = [
            _ended(past)
            for past in workspace.catalog.runs_of(run.mapping, 2 * RUNS, SYNC)
            if past.started_at < run.started_at and past.status != "running"
        ]
        judged = {alert.slug: alerts.judge(alert.when, _ended(run), before) for alert in watching}
        _tell(workspace, run.mapping, judged, run.run_id)


def _ended(run: Run) -> Ended:
    """A run, as it is judged; one whose process died has failed."""
    status, at, error, remote = run.status, run.finished_at or run.started_at, run.error, run.space.startswith(REMOTE)
    if run.abandoned:
        status, at, error = "failed", now(), "the process ended before the run did"
    return Ended(run.run_id, status, run.counts or {}, at, error, remote)


def look(workspace: Workspace) -> None:
    """Take up what no run can tell: that nothing was delivered, that a process died. Raises StoreError."""
    found, at = workspace.applied, now()
    if not found.alerts:
        return
    recorded = Runs(workspace.catalog, workspace.space)
    synced = [
        f"{destination.slug}/{mapping.slug}"
        for destination, mapping in workspace.mappings()
        if mapping.model and mapping.enabled and destination.enabled
    ]
    for path in [*synced, *(target.path for target in found.profiles_syncs)]:
        watching = [alert for alert in found.alerts if alert.watches(path)]
        if not watching:
            continue
        _died(workspace, path)
        if path in synced and any(alert.when.nothing_delivered is not None for alert in watching):
            delivered = recorded.delivered(path)
            judged = {alert.slug: alerts.silence(alert.when, delivered, at) for alert in watching}
            _tell(workspace, path, judged, None)


def _died(workspace: Workspace, path: str) -> None:
    """Judge the newest run of something if its process died and nobody was told. Raises StoreError."""
    newest = workspace.catalog.runs_of(path, 1)
    if newest and newest[0].abandoned:
        still = workspace.catalog.open_alerts()
        known = [run_id for (_, about, rule), (_, run_id) in still.items() if (about, rule) == (path, "run_failed")]
        if newest[0].run_id not in known:
            judge_run(workspace, newest[0])


def _tell(workspace: Workspace, mapping: str, judged: Mapping[str, Judged], run_id: str | None) -> None:
    """Remember what fires and what no longer does, and write the messages that this makes."""
    at, before = now(), workspace.catalog.open_alerts()
    changed: dict[Rule, Open | None] = {}
    messages = []
    by_slug = {alert.slug: alert for alert in workspace.applied.alerts}
    for slug, rules in judged.items():
        for rule, why in rules.items():
            key = (slug, mapping, rule)
            known = before[key][0] if key in before else None
            fires, kind = alerts.step(known, why, at)
            if fires != known:
                changed[key] = fires
            standing = fires or known
            if kind is not None and standing is not None:
                sentence = _sentence(kind, rule, why, standing)
                messages += _messages(workspace, by_slug[slug], kind, sentence, at, mapping, rule, standing, run_id)
    if changed:
        workspace.catalog.tell(changed, run_id, messages)


def _sentence(kind: str, rule: str, why: str | None, standing: Open) -> str:
    once = "once" if standing.count == 1 else f"{standing.count:,} times"
    times_since = f"{once} since {times.text(standing.since)}"
    said = {FIRST: why, STILL: f"{why}; {times_since}", RECOVERED: f"{_OVER[rule]}; before, it fired {times_since}"}
    return str(said[kind])


def _messages(
    workspace: Workspace,
    alert: Alert,
    kind: str,
    sentence: str,
    at: int,
    mapping: str | None = None,
    rule: str | None = None,
    standing: Open | None = None,
    run_id: str | None = None,
) -> list[Message]:
    """The messages of one alert, one a channel."""
    body = {
        "workspace": workspace.applied.name,
        "alert": alert.slug,
        "kind": kind,
        "rule": rule,
        "mapping": mapping,
        "run_id": run_id,
        "since": times.text(standing.since) if standing else None,
        "count": standing.count if standing else None,
        "message": sentence,
        "at": times.text(at),
    }
    found = []
    for channel in alert.channels:
        name = secrets.token_hex(8)
        found.append(Message(name, alert.slug, channel, at, {"id": name, **body}))
    return found


def shown(workspace: Workspace, limit: int) -> list[dict[str, Any]]:
    """The alerts, without secrets: what each watches, what fires now, and its newest messages. Raises StoreError."""
    fires = [
        {"alert": slug, "mapping": mapping, "rule": rule, "since": times.text(fire.since), "count": fire.count}
        for (slug, mapping, rule), (fire, _) in workspace.catalog.open_alerts().items()
    ]
    messages = [
        {
            **message.body,
            "channel": message.channel,
            "tries": message.tries,
            "sent_at": times.text(message.sent_at) if message.sent_at else None,
            "answer": message.answer,
        }
        for message in workspace.catalog.messages(limit)
    ]
    return [
        {
            **alerts.view(alert),
            "fires": [line for line in fires if line["alert"] == alert.slug],
            "messages": [line for line in messages if line["alert"] == alert.slug],
        }
        for alert in workspace.applied.alerts
    ]


def test(workspace: Workspace, slug: str | None) -> list[dict[str, Any]]:
    """Send a test message through each channel of an alert, or of all; what the other sides answered."""
    chosen = [pick(workspace.applied.alerts, slug, "alert")] if slug else list(workspace.applied.alerts)
    lines = []
    for alert in chosen:
        for message in _messages(workspace, alert, TEST, "this is a test; alerts come like this", now()):
            try:
                answer, taken = send(alert.channels[message.channel], message.body), True
            except NotSent as error:
                answer, taken = str(error), False
            lines.append({"alert": alert.slug, "channel": message.channel, "sent": taken, "answer": answer})
    return lines


# --- the outbox ---------------------------------------------------------------------------------------


def deliver(workspace: Workspace) -> None:
    """Send what waits to be sent and is due. Fails never: what goes wrong is logged, and tried again."""
    try:
        at = now()
        channels = {alert.slug: alert.channels for alert in workspace.applied.alerts}
        for message in workspace.catalog.unsent(TRIES):
            if message.tried_at + _delay(message.tries) <= at and workspace.catalog.claim(message, at):
                _deliver(workspace, message, channels.get(message.alert, {}).get(message.channel))
    except OnefoldError as error:
        log.warning("alerts could not be sent: %s", error)


def _deliver(workspace: Workspace, message: Message, channel: Email | Webhook | Slack | None) -> None:
    if channel is None:
        workspace.catalog.answered(message.id, "the alert was removed before it was sent", now())
        return
    try:
        workspace.catalog.answered(message.id, send(channel, message.body), now())
    except NotSent as error:
        workspace.catalog.answered(message.id, str(error), None)
        again = "it is tried again" if message.tries + 1 < TRIES else "it was tried for a day and is given up"
        log.warning("alert %s could not be sent by %s: %s; %s", message.alert, message.channel, error, again)


def _delay(tries: int) -> int:
    """µs until a message that was tried so often is tried again."""
    return 0 if not tries else DELAYS[min(tries, len(DELAYS)) - 1] * MINUTE


# --- sending ------------------------------------------------------------------------------------------


def send(channel: Email | Webhook | Slack, body: dict[str, Any]) -> str:
    """Send a message; what the other side answered. Raises NotSent."""
    for text in asdict(channel).values():
        unset = re.search(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", text) if isinstance(text, str) else None
        if unset:
            raise NotSent(f"the environment variable {unset[1]} is not set", code="missing_variable")
    if isinstance(channel, Email):
        return _mail(channel, body)
    if isinstance(channel, Webhook):
        return _hook(channel, body)
    return _post(channel.url, json.dumps({"text": f"*{_subject(body)}*\n{_text(body)}"}), {})


def signature(secret: str, timestamp: int, body: str) -> str:
    """What `Onefold-Signature` holds: HMAC-SHA256, in hex digits, of the timestamp, a dot and the body."""
    made = hmac.new(secret.encode(), f"{timestamp}.{body}".encode(), hashlib.sha256)
    return f"sha256={made.hexdigest()}"


def _hook(hook: Webhook, body: dict[str, Any]) -> str:
    text, timestamp = json.dumps(body), int(time())
    headers = {"Onefold-Timestamp": str(timestamp)}
    if hook.secret:
        headers["Onefold-Signature"] = signature(hook.secret, timestamp, text)
    return _post(hook.url, text, headers)


def _post(url: str, body: str, headers: dict[str, str]) -> str:
    """Post JSON; the address itself may be a secret, so that only its host is ever named."""
    import httpx2

    host = urlsplit(url).hostname
    said = {"Content-Type": "application/json", "User-Agent": "onefold", **headers}
    try:
        answer = httpx2.post(url, content=body, headers=said, timeout=TIMEOUT)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise NotSent(f"{host} cannot be reached: {type(error).__name__}") from None
    text = f"{host} answered {answer.status_code} {answer.text[:200].strip()}".strip()
    if not answer.is_success:
        raise NotSent(text)
    return text


def _mail(mail: Email, body: dict[str, Any]) -> str:
    import smtplib

    server = urlsplit(mail.server)
    host, implicit = server.hostname or "", server.scheme == "smtps"
    try:
        port = server.port or (465 if implicit else 587 if server.username else 25)
        # Who the server says it is, is verified: else anybody between could take the password.
        safe, encrypted = ssl.create_default_context(), implicit
        with (
            smtplib.SMTP_SSL(host, port, timeout=TIMEOUT, context=safe)
            if implicit
            else smtplib.SMTP(host, port, timeout=TIMEOUT) as client
        ):
            client.ehlo()
            if not encrypted and client.has_extn("starttls"):
                client.starttls(context=safe)
                encrypted = True
            if server.username:
                if not encrypted and host not in ("localhost", "127.0.0.1", "::1"):
                    raise NotSent(f"{host} takes passwords without encryption only; none was sent")
                client.login(unquote(server.username), unquote(server.password or ""))
            return _handed_over(client, mail, _letter(mail, body), host)
    except (smtplib.SMTPException, MessageError, OSError, ValueError, IndexError) as error:
        said = getattr(error, "smtp_error", None) or getattr(error, "strerror", None) or type(error).__name__
        if isinstance(error, smtplib.SMTPServerDisconnected):
            said = "it closed the connection"
        if isinstance(error, ssl.SSLCertVerificationError):
            said = f"its certificate cannot be trusted: {error.verify_message}"
        text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise NotSent(f"{host} did not take the e-mail: {text[:200]}") from None


def _letter(mail: Email, body: dict[str, Any]) -> EmailMessage:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = _subject(body), mail.sender, ", ".join(mail.to)
    message["Date"], message["Message-ID"] = formatdate(), make_msgid(body["id"], "onefold")
    message.set_content(_text(body))
    return message


def _handed_over(client: Any, mail: Email, message: EmailMessage, host: str) -> str:
    """Say who writes to whom and what; the server's last answer. Raises NotSent."""
    said = (
        (client.mail, (mail.sender,)),
        *((client.rcpt, (to,)) for to in mail.to),
        (client.data, (message.as_bytes(),)),
    )
    text = ""
    for say, words in said:
        code, answer = say(*words)
        text = f"{host} answered {code} {answer.decode(errors='replace')[:200]}"
        if code not in (250, 251):
            raise NotSent(text)
    return text


def _subject(body: dict[str, Any]) -> str:
    words = {FIRST: "alert", STILL: "alert goes on", RECOVERED: "alert is over", TEST: "test of an alert"}
    about = f": {body['mapping']}" if body["mapping"] else ""
    return f"Onefold {body['workspace']}, {words[body['kind']]} {body['alert']}{about}"


def _text(body: dict[str, Any]) -> str:
    about = f"{body['mapping']}: " if body["mapping"] else ""
    see = f"\nSee: onefold runs show {body['run_id']}" if body["run_id"] else ""
    return f"{about}{body['message']}.\n{body['at']}{see}\n"
