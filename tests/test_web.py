"""The web app as a person uses it: a real browser, a real server, a real warehouse."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

import onefold
from onefold import starter
from onefold.web.columns import read_by
from test_alerts import Hooks
from walk import HOSTILE, PASSWORD, ROWS, Browser, opened, walk


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory, chromium: str) -> Iterator[Browser]:
    """The walk of a first day, from an empty folder beside a DuckDB file to profiles: what all tests look at."""
    folder = tmp_path_factory.mktemp("web")
    starter.run(folder / "warehouse.duckdb", "warehouse.sql", ROWS)
    with opened(folder, chromium) as browser:
        walk(browser)
        yield browser


# --- what it gave -------------------------------------------------------------------------------------


def test_the_walk_from_an_empty_folder_leads_to_profiles(walked: Browser) -> None:
    with_ada = onefold.open(walked.folder).profile("production", "email:ada@example.com")
    assert with_ada["traits"]["first_name"] == "Ada"
    walked.go("/profiles")
    walked.page.get_by_label("Any identifier").fill("ada@example.com")
    walked.page.get_by_role("link", name="Ada Lovelace").first.click()
    walked.head("Ada Lovelace")
    expect(walked.page.get_by_text("Identity graph")).to_be_visible()
    assert walked.complaints == []


# --- runs ---------------------------------------------------------------------------------------------

CONSENTS = (
    "select * from (values (1, 'a@x.no', 'subscribed'), (2, 'b@x.no', {0}), (3, 'c@x.no', {0})) t(id, email, said)"
)
ENDLESS = "select max(a.range + b.range) as id from range(1000000) a, range(1000000) b"


def mapped(browser: Browser, slug: str, sql: str, action: str, fields: dict[str, str]) -> str:
    """A model and an enabled mapping with one name, saved from elsewhere; its selector."""
    read = {name: {"@path": f"$.properties.{column}"} for name, column in fields.items()}
    with closing(onefold.open(browser.folder)) as workspace:
        workspace.save("model", slug, {"slug": slug, "source": "warehouse", "key": "id", "sql": sql})
        found = {
            "slug": slug,
            "model": slug,
            "action": action,
            "fields": {"engage_space": "warehouse-profiles", **read},
        }
        workspace.save("mapping", f"profiles/{slug}", found)
    return f"profiles/{slug}"


def sync_now(browser: Browser, name: str) -> None:
    """Start a run of a mapping, and follow it."""
    browser.go("/destinations/profiles")
    browser.press(f"Actions of {name}")
    browser.page.get_by_role("menuitem", name="Sync now", exact=True).last.click()
    browser.page.get_by_role("link", name="Follow").last.click()
    browser.head(name)


def test_a_run_is_followed_by_stage_and_stopped(walked: Browser) -> None:
    mapped(walked, "endless", ENDLESS, "sendIdentify", {"user_id": "id"})
    sync_now(walked, "endless")
    main = walked.page.locator("main")
    expect(main.locator(".of-running")).to_contain_text("Read")
    expect(main.get_by_label("Log of the run")).to_contain_text("Reading endless from warehouse")
    walked.press("Stop run")
    expect(main.locator("h1")).to_contain_text("Stopped", timeout=30_000)
    expect(main.get_by_label("Log of the run")).to_contain_text("Ada asked it to stop")
    with closing(onefold.open(walked.folder)) as workspace:
        workspace.enable("mapping", "profiles/endless", on=False)


def test_a_run_says_what_replaying_it_would_send_before_it_does(walked: Browser) -> None:
    with closing(onefold.open(walked.folder)) as workspace:
        run_id = workspace.runs(within="profiles/customers")[-1]["run_id"]
    walked.go(f"/runs/{run_id}")
    walked.press("Replay")
    expect(walked.page.get_by_text(f"The run sent {ROWS} calls: {ROWS} in profiles already")).to_be_visible()


def test_rejected_rows_say_why_and_are_sent_again(walked: Browser) -> None:
    page, count = walked.page, walked.page.get_by_label("Main").locator(".of-count")
    fields = {"email": "email", "email_subscription_status": "said"}
    mapped(walked, "consents", CONSENTS.format("'maybe'"), "sendSubscription", fields)
    sync_now(walked, "consents")
    expect(page.locator("main h1")).to_contain_text("Partly", timeout=30_000)
    expect(page.get_by_role("cell", name="invalid_subscription_status")).to_have_count(2)
    expect(count).to_have_text("2", timeout=15_000)

    page.get_by_label("Select row 2", exact=True).check()
    walked.press("Resend 1")
    page.get_by_role("status").filter(has_text="tried again").get_by_role("link", name="Follow").click()
    expect(page.get_by_label("Log of the run")).to_contain_text("1 row rejected", timeout=30_000)

    mapped(walked, "consents", CONSENTS.format("'subscribed'"), "sendSubscription", fields)
    walked.go("/rejected")
    page.get_by_label("Select all rows").check()
    walked.press("Resend 2 rows")
    expect(page.get_by_text("No rejected rows")).to_be_visible(timeout=30_000)
    expect(count).to_be_hidden(timeout=15_000)
    with closing(onefold.open(walked.folder)) as workspace:
        assert workspace.profile("production", "email:c@x.no")["subscriptions"][0]["status"] == "SUBSCRIBED"


SCREENS = (
    "/", "/sources", "/sources/new", "/sources/warehouse", "/models", "/models/new", "/models/customers",
    "/destinations", "/destinations/new", "/destinations/profiles", "/destinations/profiles/runs",
    "/destinations/profiles/rejected", "/destinations/profiles/settings",
    "/destinations/profiles/mappings/new?model=customers&action=sendIdentify",
    "/destinations/profiles/mappings/customers", "/rejected", "/runs", "/spaces", "/spaces/new", "/spaces/production",
    "/rules", "/profiles", "/spaces/production/find/user_id:1", "/debugger", "/usage", "/settings", "/settings/alerts",
    "/settings/tokens", "/settings/users", "/settings/audit", "/help", "/components",
)  # fmt: skip


def runs(browser: Browser) -> list[str]:
    """The screens of a run that rejects rows, and of one that does not."""
    fields = {"email": "email", "email_subscription_status": "said"}
    selector = mapped(browser, "refused", CONSENTS.format("'maybe'"), "sendSubscription", fields)
    with closing(onefold.open(browser.folder)) as workspace:
        outcomes = [*workspace.sync(selector, full=True), *workspace.sync("profiles/customers")]
    assert [bool(outcome.counts["rejected"]) for outcome in outcomes] == [True, False]
    return [f"/runs/{outcome.run_id}" for outcome in outcomes]


# What stands beyond the right edge of a screen, and cannot be scrolled to in a part of its own.
BEYOND = """() => {
  const main = document.querySelector('.of-main');
  const held = (found) => {
    for (let at = found.parentElement; at && at !== main; at = at.parentElement)
      if (getComputedStyle(at).overflowX !== 'visible') return true;
  };
  return [...main.querySelectorAll('*')]
    .filter((found) => found.getBoundingClientRect().width && found.getBoundingClientRect().right > innerWidth + 1)
    .filter((found) => !held(found)).map((found) => found.className).concat(
      document.documentElement.scrollWidth > innerWidth ? ['the page'] : []);
}"""


# A phone; and a usual screen at 200 %.
@pytest.mark.parametrize(("theme", "width", "height"), [("light", 360, 640), ("dark", 640, 400)])
def test_no_screen_has_a_serious_fault_of_accessibility_or_is_too_wide(
    walked: Browser, packages: Path, theme: str, width: int, height: int
) -> None:
    page = walked.page
    page.context.add_cookies([{"name": "onefold_theme", "value": theme, "url": walked.server.url}])
    faults: dict[str, Any] = {}
    for path in (*SCREENS, *runs(walked)):
        walked.go(path)
        page.add_script_tag(path=packages / "node_modules/axe-core/axe.min.js")
        found = page.evaluate("async () => (await axe.run()).violations")
        grave = [fault for fault in found if fault["impact"] in ("serious", "critical")]
        if grave:
            faults[path] = [(fault["id"], [node["html"][:160] for node in fault["nodes"][:3]]) for fault in grave]
        page.set_viewport_size({"width": width, "height": height})
        if beyond := page.evaluate(BEYOND):
            faults[f"{path} at {width}"] = beyond
        page.set_viewport_size({"width": 1440, "height": 900})
    assert faults == {}


def test_it_is_used_by_keyboard_alone(walked: Browser) -> None:
    page, keys = walked.page, walked.page.keyboard
    focused = page.locator(":focus")
    items = page.locator("[role=menuitem]:visible")

    # Past the navigation, and to a model by its name.
    walked.go("/")
    keys.press("Tab")
    expect(focused).to_have_text("Skip to main content")
    keys.press("Enter")
    expect(focused).to_have_class("of-main")
    keys.press("Control+k")
    expect(focused).to_have_attribute("placeholder", "Search or jump to…")
    keys.type("companies")
    expect(page.locator(".of-jumpbox")).to_contain_text("Search profiles for “companies”")  # all is typed
    keys.press("ArrowDown")
    expect(focused).to_contain_text("companies")
    keys.press("Enter")
    walked.head("companies")
    expect(page.locator(".of-jumpbox")).to_have_count(0)

    # Out of the SQL editor.
    page.locator(".cm-content").focus()
    expect(page.locator(".cm-content")).to_be_focused()
    keys.press("Escape")
    keys.press("Tab")
    expect(focused).to_have_attribute("aria-label", "Rows")

    # Menus: of a page, and of a row.
    walked.go("/destinations/profiles")
    for opener in (page.get_by_role("button", name="Sync now"), page.get_by_role("button", name="Actions of orders")):
        opener.focus()
        keys.press("Enter")
        expect(items.first).to_be_visible()
        keys.press("ArrowDown")
        expect(items.first).to_be_focused()
        keys.press("Escape")
        expect(items).to_have_count(0)
        expect(opener).to_be_focused()

    # A value of a mapping: opened, left, changed.
    walked.go("/destinations/profiles/mappings/customers")
    value = page.get_by_role("button", name="Anonymous ID: edit")
    value.focus()
    keys.press("Enter")
    expect(focused).to_have_attribute("placeholder", "Filter columns")
    keys.press("Escape")
    expect(value).to_be_focused()
    keys.press("Enter")
    expect(focused).to_have_attribute("placeholder", "Filter columns")
    keys.type("phone")
    page.wait_for_timeout(200)  # what is typed goes to the server after a pause
    keys.press("Enter")
    expect(value).to_contain_text("phone")
    expect(value).to_be_focused()
    expect(page.get_by_text("1 unsaved change")).to_be_visible()
    walked.press("Discard")

    # Rows, a dialog, and back to where it was opened.
    walked.go("/spaces/production/find/email:ada@example.com")
    trait = page.get_by_role("group", name="Traits").locator("tr[tabindex='0']")
    trait.focus()
    keys.press("ArrowDown")
    second = page.get_by_role("group", name="Traits").locator("tbody tr").nth(1)
    expect(second).to_be_focused()
    keys.press("Enter")
    dialog = page.get_by_role("dialog", name=second.locator("td").first.inner_text())
    expect(dialog).to_contain_text("Message id")
    keys.press("Escape")
    expect(dialog).to_have_count(0)
    expect(second).to_be_focused()


def test_a_row_shows_its_call_at_once_and_what_it_does_when_no_sync_writes_any_more(walked: Browser) -> None:
    will = walked.page.locator(".of-will")
    with (
        closing(onefold.open(walked.folder)) as workspace,
        workspace.space("production") as store,
        store.turn(keep=False),  # as a sync holds it
    ):
        walked.go("/destinations/profiles/mappings/customers")
        expect(will).to_contain_text("A sync is writing to this space")
        expect(walked.page.locator(".of-json")).to_contain_text("messageId")
    expect(will).to_contain_text("Update use_")


def test_a_name_that_is_taken_and_a_key_that_is_not_unique_are_said_before_anything_is_saved(walked: Browser) -> None:
    page = walked.page
    for path, name, act in (
        ("/spaces/new", "production", "Create space"),
        ("/sources/new", "Warehouse", "Add source"),
    ):
        walked.go(path)
        page.get_by_label("Name").fill(name)
        page.wait_for_timeout(300)  # what is typed goes to the server after a pause
        walked.press(act)
        expect(page.get_by_text(f"named “{name}” exists. Choose another name.")).to_be_visible()
    walked.go("/models/new")
    page.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text("selct 1")
    page.wait_for_timeout(400)
    walked.press("Preview")
    expect(page.get_by_text("A model is one SELECT; this one begins with SELCT")).to_be_visible()
    page.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text("select * from shop_customers")
    page.get_by_label("Name").fill("by country")
    page.wait_for_timeout(400)
    walked.press("Preview")
    page.get_by_label("Unique key").select_option("country")
    expect(page.get_by_text("Not unique:")).to_be_visible()
    expect(page.get_by_label("Unique key")).to_have_value("country")
    walked.press("Create model")
    expect(page.get_by_role("dialog")).to_contain_text("Use country, which is not unique, as the key?")
    walked.press("Cancel", "[role=dialog]")
    walked.press("Discard")


def test_a_destination_that_is_switched_on_syncs_at_once_what_was_enabled_on_the_same_page(walked: Browser) -> None:
    page = walked.page
    walked.go("/destinations/profiles")
    switch = page.get_by_role("switch", name="Enable destination", exact=True)
    switch.click()
    expect(page.get_by_text("Destination disabled", exact=True)).to_be_visible()
    walked.press("Undo")
    expect(page.get_by_text("Destination enabled", exact=True)).to_be_visible()
    expect(switch).to_have_attribute("aria-checked", "true")
    switch.click()
    expect(page.get_by_text("Destination disabled", exact=True)).to_be_visible()
    walked.press("Sync now")
    page.get_by_role("menuitem", name="Sync all mappings").click()
    expect(page.get_by_text("is not enabled; switch the destination on first")).to_be_visible()
    switch.click()
    expect(page.get_by_text("Destination enabled", exact=True)).to_be_visible()
    walked.press("Sync now")
    page.get_by_role("menuitem", name="Sync all mappings").click()
    expect(page.get_by_text("syncs started")).to_be_visible()


def test_a_profile_tells_which_call_made_it_one_by_which_identifiers(walked: Browser) -> None:
    page = walked.page
    walked.send(
        {"type": "page", "anonymousId": "zoe-web", "name": "Boots"},
        {"type": "identify", "userId": "zoe", "traits": {"name": "Zoe"}},
        {"type": "identify", "userId": "zoe", "anonymousId": "zoe-web"},
    )
    walked.find("user_id:zoe")
    expect(page.locator(".of-graph")).to_contain_text("carried user_id zoe and anonymous_id zoe-web")
    walked.press("Show the identify call")
    expect(page.get_by_role("dialog")).to_contain_text('"userId": "zoe"')
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    calls = page.get_by_role("group", name="Calls, newest first").locator("tbody tr")
    expect(calls).to_have_count(3)
    page.get_by_role("radio", name="Page").click()
    expect(calls).to_have_count(1)
    expect(calls).to_contain_text("Today")
    expect(calls).to_contain_text("Boots")


def test_the_debugger_shows_calls_raw_sends_them_again_and_says_when_it_shows_some_of_many(walked: Browser) -> None:
    page = walked.page
    walked.send({"type": "group", "userId": "dumper", "groupId": "", "traits": {}})
    walked.go("/debugger")
    page.get_by_role("radio", name="Rejected").click()
    page.get_by_role("row").filter(has_text="dumper").first.click()
    expect(page.locator("aside").get_by_role("alert")).to_contain_text("missing_group_id")
    page.get_by_role("radio", name="Raw").click()
    expect(page.locator("aside pre")).to_contain_text('"userId": "dumper"')
    page.get_by_role("radio", name="Pretty").click()
    walked.press("Resend")
    expect(page.get_by_text("The call was sent again")).to_be_visible()
    walked.send(*({"type": "track", "userId": f"many-{at}", "event": "Many"} for at in range(600)))
    expect(page.get_by_text("showing 1 in 15")).to_be_visible()
    walked.press("Pause")
    walked.send({"type": "track", "userId": "many-1", "event": "Later"})
    expect(page.get_by_text("1 new call wait")).to_be_visible()


def test_a_column_is_dragged_to_a_value_and_nothing_else_is_taken(walked: Browser) -> None:
    page = walked.page
    walked.go("/destinations/profiles/mappings/customers")
    value = page.get_by_role("button", name="Anonymous ID: edit")
    columns = page.locator(".of-cols").first
    columns.get_by_role("button", name="phone").drag_to(value)
    expect(value).to_contain_text("phone")
    expect(page.get_by_text("1 unsaved change")).to_be_visible()
    link = page.get_by_role("link", name="Runs", exact=True)
    link.drag_to(page.get_by_role("button", name="Group ID: edit"))
    expect(page.get_by_role("button", name="Group ID: edit")).to_contain_text("empty")
    expect(page.get_by_text("1 unsaved change")).to_be_visible()
    walked.press("Discard")


def test_a_query_is_laid_out_and_the_values_of_its_columns_are_counted(walked: Browser) -> None:
    page = walked.page
    walked.go("/models/customers")
    walked.press("Values of country")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("different values in 60 rows")
    expect(dialog.get_by_role("row").nth(1)).to_contain_text("%")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    walked.press("Format")
    expect(page.locator(".cm-line").nth(1)).to_have_text("from shop_customers")
    walked.press("Discard")


def test_an_alert_is_added_tried_changed_and_removed(walked: Browser) -> None:
    page, hooks = walked.page, Hooks()
    walked.go("/settings/alerts")
    walked.press("Add alert")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("On call")
    dialog.get_by_label("Rejected above").fill("five")
    dialog.get_by_label("Webhook", exact=True).fill(hooks.url)
    page.wait_for_timeout(300)  # what is typed goes to the server after a pause
    walked.press("Add alert", "[role=dialog]")
    expect(dialog.locator(".of-wrong:visible, [role=alert]:visible").first).to_contain_text("five")
    dialog.get_by_label("Rejected above").fill("5%")
    dialog.get_by_label("Secret of the webhook").fill("not to be shown")
    page.wait_for_timeout(300)
    walked.press("Add alert", "[role=dialog]")
    row = page.get_by_role("row").filter(has_text="On call")
    expect(row).to_contain_text("A run failed, Rejected above 5 %")

    walked.press("Actions of On call")
    page.get_by_role("menuitem", name="Send a test").click()
    expect(page.get_by_role("dialog")).to_contain_text("Webhook: taken")
    assert len(hooks.got) == 1
    walked.press("Close", "[role=dialog]")
    expect(page.get_by_role("dialog")).to_have_count(0)

    walked.press("Actions of On call")
    page.get_by_role("menuitem", name="Edit").click()
    expect(page.get_by_role("dialog").get_by_label("Secret of the webhook")).not_to_have_value("not to be shown")
    page.get_by_role("dialog").get_by_label("Nothing delivered for").fill("36h")
    page.wait_for_timeout(300)
    walked.press("Save alert", "[role=dialog]")
    expect(row).to_contain_text("Nothing delivered for 36h")
    assert "not to be shown" not in (walked.folder / "onefold.yaml").read_text()

    walked.press("Actions of On call")
    page.get_by_role("menuitem", name="Remove").click()
    walked.press("Remove alert")
    expect(page.get_by_text("No alerts yet")).to_be_visible()


def test_what_is_not_saved_survives_a_restart_of_the_server(walked: Browser) -> None:
    page = walked.page
    walked.go("/destinations/profiles/mappings/orders?view=trigger")
    page.get_by_label("Trigger, in FQL").fill('event = "new" and properties.total > 7')
    expect(page.get_by_text("1 unsaved change")).to_be_visible()
    walked.go("/models/companies")
    page.locator(".cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.insert_text(" -- half a thought")
    expect(page.get_by_text("Unsaved changes")).to_be_visible()
    walked.server.end()
    walked.server.start()
    walked.login()  # at another port, which has another cookie

    walked.go("/destinations/profiles/mappings/orders?view=trigger")
    expect(page.get_by_label("Trigger, in FQL")).to_have_value('event = "new" and properties.total > 7')
    with closing(onefold.open(walked.folder)) as workspace:  # meanwhile somebody else
        saved = workspace.editable("mapping", "profiles/orders")
        workspace.save("mapping", "profiles/orders", {**saved["object"], "name": "orders of today"}, saved["version"])
    walked.go("/destinations/profiles/mappings/orders")
    expect(page.get_by_text("Somebody saved it since you began")).to_be_visible()
    walked.press("Save mapping")
    expect(page.get_by_text("somebody else changed mapping profiles/orders")).to_be_visible()
    walked.press("Discard")
    walked.go("/models/companies")
    expect(page.locator(".cm-content")).to_contain_text("half a thought")
    walked.press("Discard")


def test_hostile_names_and_values_are_shown_as_text_on_every_screen(walked: Browser) -> None:
    page = walked.page
    traits = {"first_name": HOSTILE, HOSTILE: HOSTILE}
    walked.send(
        {"type": "identify", "userId": HOSTILE, "traits": traits},
        {"type": "track", "userId": HOSTILE, "event": HOSTILE, "properties": {HOSTILE: HOSTILE}},
        {"type": "track", "userId": HOSTILE, "event": ""},
    )
    said = HOSTILE.replace("'", "''")
    sql = f"""select 1 as id, '{said}' as "{HOSTILE.replace('"', '""')}", '{said}' as said"""
    with closing(onefold.open(walked.folder)) as workspace:
        for kind, slug in (("space", "production"), ("source", "warehouse"), ("destination", "profiles")):
            found = workspace.editable(kind, slug)["object"]
            if kind == "space":
                found["sources"] = [{**source, "name": HOSTILE} for source in found["sources"]]
            workspace.save(kind, slug, {**found, "name": HOSTILE})
        workspace.save("model", "hostile", {"name": HOSTILE, "source": "warehouse", "key": "id", "sql": sql})
        fields = {
            "engage_space": "warehouse-profiles",
            "email": "a@x.no",
            "email_subscription_status": {"@path": "$.properties.said"},
        }
        mapping = {"name": HOSTILE, "model": "hostile", "action": "sendSubscription", "fields": fields}
        workspace.save("mapping", "profiles/hostile", {**mapping, "enabled": True})
        alert = {"name": HOSTILE, "when": {"run_failed": True}, "webhook": {"url": "http://127.0.0.1:9/x"}}
        workspace.save("alert", "hostile", alert)
        workspace.create_user("<b onmouseover=harmed>", "viewer", PASSWORD)
        (outcome,) = workspace.sync("profiles/hostile")
    assert outcome.counts["rejected"] == 1
    own = (
        "/models/hostile", "/destinations/profiles/mappings/hostile",
        "/destinations/profiles/mappings/hostile?view=yaml", f"/runs/{outcome.run_id}",
        f"/spaces/production/find/user_id:{quote(HOSTILE, safe='')}",
    )  # fmt: skip
    for path in (*SCREENS, *own):
        walked.go(path)
        page.wait_for_timeout(700)  # until what is read in the background is shown
        assert page.evaluate("window.harmed") is None, path
        text = page.inner_text("body")
        assert "}}49" not in text, path
        if path in own or path in ("/sources", "/spaces", "/destinations", "/models", "/debugger", "/settings/alerts"):
            assert HOSTILE in text, path


def test_the_columns_that_a_mapping_reads_are_known_whatever_their_names() -> None:
    fields = [
        {"@path": "$.properties.price [EUR]"},
        {"a": {"@path": "properties.list[0].b"}},
        {"@path": "$.properties"},
    ]
    assert read_by(fields) == ["price [EUR]", "list"]


def test_nothing_of_all_this_failed_in_the_server_and_no_request_left_the_host(walked: Browser) -> None:
    assert [line for line in walked.server.log if line["level"] == "error"] == []
    local = ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")
    assert len(walked.asked) > 100
    assert [url for url in walked.asked if not url.startswith(local)] == []
