"""Alerts: what fires, when it is told, and that it arrives: at a real mail server, and a real web server."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MailHandler
from aiosmtpd.smtp import AuthResult, LoginPassword

import onefold
from onefold import alerts, notify
from onefold.alerts import AGAIN, FIRST, RECOVERED, STILL, Email, Ended, Open, Webhook, When, judge, silence, step
from onefold.endpoints import tracking
from onefold.runs import now
from onefold.upkeep import Upkeep
from reader import asking
from shop import IDENTIFY, Shop, command, mapping

HOUR = 3_600_000_000


def ended(status: str = "succeeded", **counts: int) -> Ended:
    return Ended("r", status, counts, 0, "the warehouse is down" if status == "failed" else None)


# --- what fires ---------------------------------------------------------------------------------------

ALL = When(run_failed=True, run_partly=True, rejected_above=5, volume_changed=50)


def test_a_run_that_failed_says_why_and_says_nothing_of_rows() -> None:
    assert judge(ALL, ended("failed"), []) == {"run_failed": "the sync failed: the warehouse is down"}


def test_a_run_that_succeeded_ends_what_its_failures_began() -> None:
    assert judge(When(run_failed=True), ended(), []) == {"run_failed": None}


def test_a_run_that_somebody_cancelled_says_nothing() -> None:
    assert judge(ALL, ended("cancelled"), []) == {}


def test_rejected_rows_fire_partly() -> None:
    assert judge(When(run_partly=True), ended("partly", rejected=3), []) == {"run_partly": "3 rows were rejected"}


def test_a_run_that_failed_because_nothing_was_delivered_is_judged_by_what_it_rejected() -> None:
    run = Ended("r", "failed", {"sent": 10, "rejected": 30}, 0, "the endpoint is down", remote=True)
    assert judge(ALL, run, [ended(extracted=9)] * 9) == {
        "run_failed": "the sync failed: the endpoint is down",
        "run_partly": "30 rows were rejected or not delivered",
        "rejected_above": "75 % of the rows to be sent were rejected or not delivered: 30 of 40",
    }


@pytest.mark.parametrize(("sent", "rejected", "fires"), [(95, 5, False), (94, 6, True), (0, 1, True), (0, 0, False)])
def test_the_share_of_rejected_rows_is_of_those_that_were_to_be_sent(sent: int, rejected: int, fires: bool) -> None:
    run = ended("partly", extracted=1_000_000, sent=sent, rejected=rejected)
    assert (judge(When(rejected_above=5), run, [])["rejected_above"] is not None) is fires


@pytest.mark.parametrize(("rows", "fires"), [(150, False), (151, True), (50, False), (49, True), (0, True)])
def test_the_volume_is_compared_with_the_median_of_the_last_runs(rows: int, fires: bool) -> None:
    before = [ended(extracted=100), ended("failed", extracted=0), ended(extracted=100), ended(extracted=9_999)]
    judged = judge(When(volume_changed=50), ended(extracted=rows), before)
    assert (judged["volume_changed"] is not None) is fires


def test_the_volume_of_the_first_runs_is_compared_with_nothing() -> None:
    assert judge(When(volume_changed=50), ended(extracted=1), [ended(extracted=100)] * 2) == {}


def test_silence_is_longer_than_it_may_be() -> None:
    when = When(nothing_delivered=24 * 3600)
    assert silence(when, 0, 24 * HOUR) == {"nothing_delivered": None}
    assert silence(when, 0, 25 * HOUR) == {"nothing_delivered": "nothing was delivered for 25.0 hours"}
    assert silence(When(), 0, 25 * HOUR) == {}


# --- of a remote region -------------------------------------------------------------------------------


class Elsewhere:
    """A tracking API that answers as it is told."""

    def __init__(self) -> None:
        self.status = 200
        self.refused = ""  # a batch that holds this is refused
        elsewhere = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = gzip.decompress(self.rfile.read(int(self.headers["content-length"]))).decode()
                refused = bool(elsewhere.refused) and elsewhere.refused in body
                self.send_response(400 if refused else elsewhere.status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        Thread(target=self.server.serve_forever, daemon=True).start()


def test_every_rule_judges_runs_into_a_remote_region_by_what_was_acknowledged(
    tmp_path: Path, hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "ATTEMPTS", 1)
    there = Elsewhere()
    rules = {"run_failed": True, "run_partly": True, "rejected_above": "20%", "volume_changed": "50%",
             "nothing_delivered": "24h"}  # fmt: skip
    shop = Alerted(tmp_path / "shop", {"slug": "far", "when": rules, "webhook": {"url": hooks.url}})
    shop.settings = {"endpoint": there.url}
    shop.mappings = [mapping(fields={**IDENTIFY, "engage_space": "a-key-of-there"})]
    shop.people(*((at, f"{at}@x", "free") for at in range(2, 9)))
    shop.apply()

    def told(*, days: int = 0) -> list[tuple[str, str, str]]:
        """What is told after a sync of that many days ago."""
        with shop.workspace() as workspace:
            list(workspace.sync())
            with workspace.catalog._engine.begin() as connection:
                late = days * 86_400_000_000
                connection.exec_driver_sql(f"update run set started_at = started_at - {late},"
                                           f" finished_at = finished_at - {late}")  # fmt: skip
            notify.look(workspace)
            notify.deliver(workspace)
        found = [(body["kind"], body["rule"], body["message"].partition(";")[0]) for body in hooks.bodies]
        hooks.got.clear()
        return found

    assert told() == []
    there.refused = "2@x"
    shop.sql("update people set plan = 'pro'")
    # One of seven was refused: less than a fifth.
    assert told() == [("first", "run_partly", "1 rows were rejected or not delivered")]
    there.refused, there.status = "", 503
    shop.sql("update people set plan = 'gold'")
    failed, share, silent = told(days=2)
    assert failed[:2] == ("first", "run_failed")
    assert (share[1], "not delivered" in share[2]) == ("rejected_above", True)
    assert silent[1:] == ("nothing_delivered", "nothing was delivered for 48.0 hours")
    assert told() == told() == [], "what goes on is not told again"
    there.status = 200
    assert {line[:2] for line in told()} == {
        ("recovered", rule) for rule in ("run_failed", "run_partly", "rejected_above", "nothing_delivered")
    }
    shop.people(*((at, f"{at}@x", "free") for at in range(100, 150)))
    assert [line[:2] for line in told()] == [("first", "volume_changed")]
    there.server.shutdown()
    there.server.server_close()


# --- when it is told ----------------------------------------------------------------------------------


def test_what_goes_on_is_told_once_then_once_a_day_with_its_count_and_once_when_it_is_over() -> None:
    told, fires = [], None
    for hour in range(60):
        fires, kind = step(fires, "the sync failed" if hour < 50 else None, hour * HOUR)
        if kind:
            told.append((hour, kind, fires.count if fires else None))
    assert told == [(0, FIRST, 1), (24, STILL, 25), (48, STILL, 49), (50, RECOVERED, None)]


def test_what_begins_again_is_told_again() -> None:
    assert step(None, None, 5) == (None, None)
    assert step(None, "x", 5) == (Open(5, 1, 5), FIRST)
    assert step(Open(5, 1, 5), "x", 4 + AGAIN) == (Open(5, 2, 5), None)


# --- that it arrives ----------------------------------------------------------------------------------


class Mails(MailHandler):
    def __init__(self) -> None:
        super().__init__()
        self.got: list[Any] = []

    async def handle_RCPT(self, *said: Any) -> str:  # noqa: N802 - the mail server calls it so
        _, _, envelope, address, _ = said
        if address.startswith("nobody"):
            return "550 nobody lives here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    def handle_message(self, message: Any) -> None:
        self.got.append(message)


@pytest.fixture
def mails() -> Iterator[tuple[str, list[Any]]]:
    handler = Mails()
    controller = Controller(handler, hostname="127.0.0.1", port=0)
    controller.port = _free()
    controller.start()
    yield f"smtp://127.0.0.1:{controller.port}", handler.got
    controller.stop()


def _free() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


class Hooks:
    """A web server that keeps what is posted, and answers as it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], str]] = []
        self.status = 200
        hooks = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                hooks.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(hooks.status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    found = Hooks()
    yield found
    found.server.shutdown()
    found.server.server_close()


class Alerted(Shop):
    """A shop with alerts; its one mapping fails while the table is gone."""

    def __init__(self, folder: Path, *told: dict[str, Any]) -> None:
        super().__init__(folder)
        self.told = list(told)
        self.people((1, "ada@x", "pro"))
        self.apply()

    def write(self) -> None:
        super().write()
        data = json.loads((self.folder / "onefold.yaml").read_text())
        (self.folder / "onefold.yaml").write_text(json.dumps({**data, "alerts": self.told}))

    def broken(self, *, broken: bool) -> None:
        self.sql("alter table people rename to gone" if broken else "alter table gone rename to people")

    @contextmanager
    def workspace(self) -> Iterator[onefold.Workspace]:
        workspace = onefold.open(self.folder)
        yield workspace
        workspace.close()

    def shown(self) -> dict[str, Any]:
        with self.workspace() as workspace:
            return workspace.alerts()[0]


def test_a_sync_that_fails_is_told_by_mail_webhook_and_slack_and_so_is_its_end(
    tmp_path: Path, mails: tuple[str, list[Any]], hooks: Hooks
) -> None:
    server, got = mails
    shop = Alerted(
        tmp_path / "shop",
        {
            "slug": "on-call",
            "email": {"server": server, "from": "onefold@acme.example", "to": ["ops@acme.example", "bo@acme.example"]},
            "webhook": {"url": hooks.url, "secret": "sEcret"},
            "slack": {"url": hooks.url},
        },
    )
    shop.broken(broken=True)
    ran = command("sync", "--json", cwd=shop.folder)
    command("sync", cwd=shop.folder)
    shop.broken(broken=False)
    command("sync", cwd=shop.folder)
    failed = json.loads(ran.stdout)
    first, second = got
    assert first["subject"] == "Onefold shop, alert on-call: d/people"
    assert first["to"] == "ops@acme.example, bo@acme.example"
    assert f"onefold runs show {failed['run_id']}" in first.get_payload()
    assert "the sync failed: " in first.get_payload()
    assert second["subject"] == "Onefold shop, alert is over on-call: d/people"
    signed = [(headers, body) for headers, body in hooks.got if "onefold-signature" in headers]
    assert [json.loads(body)["kind"] for _, body in signed] == ["first", "recovered"]
    for headers, body in signed:
        made = hmac.new(b"sEcret", f"{headers['onefold-timestamp']}.{body}".encode(), hashlib.sha256).hexdigest()
        assert headers["onefold-signature"] == f"sha256={made}"
    assert json.loads(signed[1][1])["count"] == 2, "the failure between was counted, and not told"
    (slack, over) = [body["text"] for body in hooks.bodies if "text" in body]
    assert slack.startswith("*Onefold shop, alert on-call: d/people*\nd/people: the sync failed")
    assert "the sync succeeds again; before, it fired 2 times since " in over


def test_a_message_that_cannot_be_sent_fails_no_sync_is_shown_and_tried_again(tmp_path: Path, hooks: Hooks) -> None:
    shop = Alerted(tmp_path / "shop", {"slug": "on-call", "webhook": {"url": hooks.url}})
    hooks.status = 500
    shop.broken(broken=True)
    ran = command("sync", "--json", cwd=shop.folder)
    assert json.loads(ran.stdout)["code"] != "internal"
    assert "alert on-call could not be sent by webhook: 127.0.0.1 answered 500 ok; it is tried again" in ran.stderr
    shown = shop.shown()
    assert [(line["rule"], line["count"]) for line in shown["fires"]] == [("run_failed", 1)]
    assert (shown["messages"][0]["sent_at"], shown["messages"][0]["tries"]) == (None, 1)
    assert "127.0.0.1 answered 500 ok" in command("alert", "list", cwd=shop.folder).stdout
    hooks.status = 200
    with shop.workspace() as workspace:
        notify.deliver(workspace)
        assert len(hooks.got) == 1, "not before its time"
        (message,) = workspace.catalog.unsent(notify.TRIES)
        workspace.catalog.tell({}, None, [])
        with workspace.catalog._engine.begin() as connection:
            connection.exec_driver_sql("update message set tried_at = tried_at - 60000000")
        notify.deliver(workspace)
        notify.deliver(workspace)
        assert not workspace.catalog.claim(message, now()), "what is sent is not sent twice"
    assert len(hooks.got) == 2
    assert hooks.bodies[0] == hooks.bodies[1], "the same message, with the same id"
    assert shop.shown()["messages"][0]["answer"] == "127.0.0.1 answered 200 ok"


def test_a_run_whose_process_was_killed_is_told_by_serve_once(tmp_path: Path, hooks: Hooks) -> None:
    shop = Alerted(tmp_path / "shop", {"slug": "on-call", "webhook": {"url": hooks.url}})
    with shop.workspace() as workspace:
        workspace.catalog.start("killed", "d/people", "production", now(), "cli")
        with workspace.catalog._engine.begin() as connection:
            connection.exec_driver_sql("update run set pid = 999999999")
        upkeep = Upkeep(workspace)
        upkeep.look()
        upkeep.look()
        upkeep.close()
    (body,) = hooks.bodies
    assert (body["rule"], body["run_id"]) == ("run_failed", "killed")
    assert body["message"] == "the sync failed: the process ended before the run did"


def test_a_profiles_sync_that_was_killed_is_a_failed_run_and_told(tmp_path: Path, hooks: Hooks) -> None:
    shop = Alerted(tmp_path / "shop", {"slug": "on-call", "webhook": {"url": hooks.url}})
    shop.targets = [{"slug": "out", "type": "duckdb", "path": "out.duckdb", "space": "production"}]
    shop.apply()
    shop.sync()
    script = str(Path(__file__).with_name("crash_profiles.py"))
    killed = subprocess.run([sys.executable, script, str(shop.folder), "out", "5"], check=False, timeout=120)
    assert killed.returncode == -9
    with shop.workspace() as workspace:
        newest = workspace.runs()[0]
        assert (newest["mapping"], newest["status"], newest["code"]) == ("profiles sync/out", "failed", "interrupted")
        for _ in range(2):
            notify.look(workspace)
            notify.deliver(workspace)
        workspace.sync_profiles("production", "out")
        notify.deliver(workspace)
        assert [run["status"] for run in workspace.runs()][:2] == ["succeeded", "failed"]
    assert [(body["kind"], body["rule"], body["mapping"]) for body in hooks.bodies] == [
        ("first", "run_failed", "profiles sync/out"),
        ("recovered", "run_failed", "profiles sync/out"),
    ]


def test_what_a_killed_run_sent_counts_as_delivered(tmp_path: Path, hooks: Hooks) -> None:
    alert = {"slug": "quiet", "when": {"nothing_delivered": "24h"}, "webhook": {"url": hooks.url}}
    shop = Alerted(tmp_path / "shop", alert)
    shop.sync()
    with shop.workspace() as workspace:
        with workspace.catalog._engine.begin() as connection:
            # As if the process had died before it could write how the run ended, and had been applied long ago.
            connection.exec_driver_sql("update run set status = 'running', counts = null, pid = 999999999")
            connection.exec_driver_sql("update configuration set applied_at = applied_at - 90000000000")
        notify.look(workspace)
        notify.deliver(workspace)
    assert hooks.bodies == []


def test_serve_tells_that_nothing_was_delivered_and_that_it_is_again(tmp_path: Path, hooks: Hooks) -> None:
    alert = {"slug": "quiet", "when": {"nothing_delivered": "24h"}, "webhook": {"url": hooks.url}}
    shop = Alerted(tmp_path / "shop", alert)
    shop.sync()
    with shop.workspace() as workspace:
        notify.look(workspace)
        with workspace.catalog._engine.begin() as connection:
            connection.exec_driver_sql("update run set started_at = started_at - 90000000000,"
                                       " finished_at = finished_at - 90000000000")  # fmt: skip
    shop.sync()  # has nothing to deliver
    with shop.workspace() as workspace:
        notify.look(workspace)
        notify.deliver(workspace)
    shop.people((2, "bob@x", "free"))
    shop.sync()
    with shop.workspace() as workspace:
        notify.look(workspace)
        notify.deliver(workspace)
    assert [(body["kind"], body["message"].partition(";")[0]) for body in hooks.bodies] == [
        ("first", "nothing was delivered for 25.0 hours"),
        ("recovered", "calls are delivered again"),
    ]


def test_an_alert_can_be_tested_and_says_what_the_other_side_answered(
    tmp_path: Path, mails: tuple[str, list[Any]], hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", hooks.url)
    server, got = mails
    told = {"server": server, "from": "onefold@acme.example", "to": "ops@acme.example"}
    shop = Alerted(
        tmp_path / "shop",
        {"slug": "mail", "email": told},
        {"slug": "hook", "webhook": {"url": "${HOOK}", "secret": "${HOOK}"}},
    )
    said = command("alert", "test", cwd=shop.folder)
    assert said.returncode == 0
    assert said.stdout.splitlines()[0].startswith("mail by email: sent; 127.0.0.1 answered 250 ")
    assert said.stdout.splitlines()[1] == "hook by webhook: sent; 127.0.0.1 answered 200 ok"
    assert "this is a test" in got[0].get_payload()
    hooks.status = 403
    said = command("alert", "test", "hook", "--json", cwd=shop.folder)
    assert (said.returncode, json.loads(said.stdout)["answer"]) == (1, "127.0.0.1 answered 403 ok")
    monkeypatch.delenv("HOOK")
    assert "the environment variable HOOK is not set" in command("alert", "test", "hook", cwd=shop.folder).stdout
    assert "no alert 'hok'; did you mean 'hook'?" in command("alert", "test", "hok", cwd=shop.folder).stderr


@pytest.mark.parametrize(
    ("channel", "said"),
    [
        (Email("smtp://127.0.0.1:1", "a@b", ("c@d",)), "127.0.0.1 did not take the e-mail: Connection refused"),
        (Email("smtp://127.0.0.1:x", "a@b", ("c@d",)), "127.0.0.1 did not take the e-mail: ValueError"),
        (Webhook("http://127.0.0.1:1/sEcret"), "127.0.0.1 cannot be reached: ConnectError"),
        (Webhook("${NOT_SET}"), "the environment variable NOT_SET is not set"),
    ],
)
def test_who_cannot_be_reached_is_named_without_the_secret_address(channel: Any, said: str) -> None:
    body = {"id": "1", "workspace": "w", "alert": "a", "kind": "test", "mapping": None, "run_id": None, "at": "t"}
    with pytest.raises(notify.NotSent) as failed:
        notify.send(channel, {**body, "message": "m"})
    assert str(failed.value) == said


def test_a_mail_that_the_server_refuses_is_told_in_its_words(mails: tuple[str, list[Any]]) -> None:
    server, got = mails
    body = {"id": "1", "workspace": "w", "alert": "a", "kind": "test", "mapping": None, "run_id": None, "at": "t"}
    with pytest.raises(notify.NotSent, match=r"127\.0\.0\.1 answered 550 nobody lives here"):
        notify.send(Email(server, "a@b", ("Bo <bo@d>", "nobody@d")), {**body, "message": "m"})
    assert got == []


# --- mail servers with TLS ----------------------------------------------------------------------------

LETTER = {"id": "1", "workspace": "w", "alert": "a", "kind": "test", "mapping": None, "run_id": None, "at": "t",
          "message": "m"}  # fmt: skip


@contextmanager
def mail_server(tls: ssl.SSLContext | None, *, implicit: bool, host: str = "127.0.0.1") -> Iterator[tuple[int, Mails]]:
    """A server that lets `ada` in; with TLS from the start, or after STARTTLS."""
    handler = Mails()

    def known(*said: Any) -> AuthResult:
        return AuthResult(success=said[-1] == LoginPassword(b"ada", b"p@ss"), handled=False)

    more: dict[str, Any] = {"tls_context": tls, "require_starttls": True, "auth_required": True}
    if implicit or tls is None:
        more = {"ssl_context": tls, "auth_require_tls": False}
    server = Controller(handler, hostname=host, port=_free(), authenticator=known, **more)
    server.start()
    yield server.port, handler
    server.stop()


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An authority that this host trusts."""
    found = trustme.CA()
    found.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    return found


def certified(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_mail_goes_out_encrypted_by_starttls_and_from_the_start(authority: trustme.CA, scheme: str) -> None:
    with mail_server(certified(authority, "127.0.0.1"), implicit=scheme == "smtps") as (port, server):
        address = Email(f"{scheme}://ada:p%40ss@127.0.0.1:{port}", "a@b", ("c@d",))
        assert notify.send(address, LETTER) == "127.0.0.1 answered 250 OK"
        wrong = Email(f"{scheme}://ada:wrong@127.0.0.1:{port}", "a@b", ("c@d",))
        with pytest.raises(notify.NotSent, match=r"e-mail: 5\.7\.8 Authentication credentials invalid"):
            notify.send(wrong, LETTER)
    (letter,) = server.got
    assert letter["subject"] == "Onefold w, test of an alert a"


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
@pytest.mark.parametrize("other", ["authority", "name"])
def test_no_password_goes_to_a_server_that_is_not_who_it_says(authority: trustme.CA, scheme: str, other: str) -> None:
    by, name = (trustme.CA(), "127.0.0.1") if other == "authority" else (authority, "mail.example.com")
    with mail_server(certified(by, name), implicit=scheme == "smtps") as (port, server):
        letter = Email(f"{scheme}://ada:p%40ss@127.0.0.1:{port}", "a@b", ("c@d",))
        with pytest.raises(notify.NotSent, match="did not take the e-mail: its certificate cannot be trusted: "):
            notify.send(letter, LETTER)
    assert server.got == []


def test_no_password_goes_out_unencrypted() -> None:
    with mail_server(None, implicit=False, host="127.0.0.2") as (port, server):
        letter = Email(f"smtp://ada:p%40ss@127.0.0.2:{port}", "a@b", ("c@d",))
        with pytest.raises(notify.NotSent, match="takes passwords without encryption only; none was sent"):
            notify.send(letter, LETTER)
    assert server.got == []


# --- over HTTP ----------------------------------------------------------------------------------------


def test_viewers_see_what_alerts_watch_and_none_of_their_secrets(
    tmp_path: Path, hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", f"{hooks.url}/sEcret-of-a-variable")
    shop = Alerted(
        tmp_path / "shop",
        {"slug": "one", "webhook": {"url": f"{hooks.url}?token=sEcret", "secret": "sEcret"}},
        {"slug": "two", "webhook": {"url": "${HOOK}"}, "slack": {"url": f"{hooks.url}/sEcret"}},
        {"slug": "three", "email": {"server": "smtp://ada:sEcret@mail", "from": "a@b", "to": "c@d"}},
    )
    with asking(shop.folder) as asked:
        asked.workspace.create_user("vic", "viewer", "a long enough one")
        session = {"name": "vic", "password": "a long enough one"}
        token = asked.client.post("/api/session", json=session).json()["csrf"]
        read = [asked.client.get(f"/api/{path}").text for path in ("alerts", "export", "plan", "runs", "destinations")]
        sent = asked.client.post("/api/alerts/one/test", headers={"X-CSRF-Token": token})
    assert "run_failed" in read[0]
    assert "sEcret" not in "".join(read)
    assert (sent.status_code, sent.json()["error"]["code"], hooks.got) == (403, "forbidden", [])


def test_the_alerts_can_be_asked_for_over_http_without_their_secrets(tmp_path: Path, hooks: Hooks) -> None:
    from onefold.api.operations import OPERATIONS

    by_id = {operation.id: operation for operation in OPERATIONS}
    shop = Alerted(tmp_path / "shop", {"slug": "hook", "slack": {"url": f"{hooks.url}/sEcret"}})
    with shop.workspace() as workspace:
        listed = json.dumps(by_id["listAlerts"].run(workspace, {}))
        tested = by_id["testAlert"].run(workspace, {"alert": "hook"})
    assert "sEcret" not in listed
    assert tested["data"][0]["sent"] is True
    assert alerts.RULES[0] in listed
