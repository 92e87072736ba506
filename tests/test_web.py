"""The web app as a person uses it: a real browser, a real server, a real warehouse."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect, sync_playwright

import onefold
from live import Server, eventually
from onefold import starter

expect.set_options(timeout=15_000)
NAME, PASSWORD = "Ada", "correct horse battery"
HOSTILE = '<img src=x onerror="window.harmed=1">{{7*7}}'
ROWS = 60  # of the warehouse
# Model -> key, SQL, action, what its editor suggests enough of.
MODELS = {
    "customers": ("id", "select * from shop_customers", "Send Identify"),
    "companies": ("account_id", "select *, 'crm-' || main_contact_id as anonymous_id from crm_accounts", "Send Group"),
    "orders": ("order_id", "select * from orders", "Send Track"),
    "preferences": ("preference_id", "select * from marketing_preferences", "Send Subscriptions"),
}


@dataclass
class Browser:
    """A page of somebody who is logged in, the server behind it, and what the page asked for and complained of."""

    page: Page
    server: Server
    folder: Path
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def go(self, path: str) -> None:
        """Open an address, and wait for its screen."""
        self.page.goto(f"{self.server.url}{path}")
        expect(self.page.locator("main h1, .of-empty h3").first).to_be_visible(timeout=15_000)

    def press(self, name: str, within: str = "body") -> None:
        self.page.locator(within).get_by_role("button", name=name, exact=True).first.click()

    def follow(self, name: str) -> None:
        self.page.locator("main").get_by_role("link", name=name, exact=True).first.click()

    def send(self, *calls: dict[str, Any]) -> None:
        """Send live calls to the first profile source."""
        workspace = onefold.open(self.folder)
        key = workspace.write_keys()[0]["write_key"]
        workspace.close()
        self.page.request.post(f"{self.server.url}/v1/batch", data={"writeKey": key, "batch": list(calls)})

    def find(self, identifier: str) -> None:
        """Open the profile of an identifier, once it is there."""
        workspace = onefold.open(self.folder)
        eventually(lambda: workspace.search("production", identifier.partition(":")[2]).profiles)
        workspace.close()
        self.go(f"/spaces/production/find/{quote(identifier, safe='')}")

    def head(self, name: str) -> None:
        """The screen with this name is there."""
        expect(self.page.locator("main h1")).to_contain_text(name, timeout=15_000)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, chromium: str) -> Iterator[Browser]:
    """A new folder beside a warehouse, served; a browser that nobody is logged in with."""
    folder = tmp_path_factory.mktemp("web")
    starter.run(folder / "warehouse.duckdb", "warehouse.sql", ROWS)
    server = Server(folder)
    with sync_playwright() as playwright:
        shown = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = shown.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(15_000)
        found = Browser(page, server, folder)
        page.on("request", lambda request: found.asked.append(request.url))
        page.on("pageerror", lambda error: found.complaints.append(str(error)))
        try:
            yield found
        finally:
            shown.close()
            server.end()


@pytest.fixture(scope="module")
def walked(browser: Browser) -> Browser:
    """The walk of a first day, from an empty folder to profiles: what all other tests look at."""
    first_start(browser)
    create_space(browser)
    add_source(browser)
    for name, (key, sql, _) in MODELS.items():
        create_model(browser, name, key, sql)
    add_destination(browser)
    for name, (_, _, action) in MODELS.items():
        add_mapping(browser, name, action)
    enable_and_sync(browser)
    return browser


# --- the walk -----------------------------------------------------------------------------------------


def first_start(browser: Browser) -> None:
    page = browser.page
    page.goto(browser.server.url)
    expect(page.get_by_text("There is no user yet")).to_be_visible()
    page.goto(browser.server.started["setup"])
    page.fill("#name", NAME)
    page.fill("#password", PASSWORD)
    page.fill("#again", "another one altogether")
    page.click("button[type=submit]")
    expect(page.get_by_role("alert")).to_contain_text("The two passwords differ")
    page.fill("#password", PASSWORD)
    page.fill("#again", PASSWORD)
    page.click("button[type=submit]")
    browser.head("Welcome to Onefold")


def create_space(browser: Browser) -> None:
    browser.page.get_by_text("1. Create a Profile Space").click()
    browser.head("Create space")
    expect(browser.page.get_by_label("Name")).to_have_value("Production")
    browser.press("Create space")
    browser.head("Production")
    expect(browser.page.get_by_role("cell", name="Warehouse profiles")).to_be_visible()


def add_source(browser: Browser) -> None:
    page = browser.page
    browser.go("/sources")
    browser.follow("Add source")
    page.get_by_label("Path").fill("nowhere.duckdb")
    browser.press("Test connection")
    expect(page.locator("main").get_by_role("alert").first).to_contain_text("nowhere.duckdb")
    page.get_by_label("Path").fill("warehouse.duckdb")
    browser.press("Test connection")
    expect(page.get_by_text("The connection works")).to_be_visible()
    expect(page.get_by_role("cell", name="shop_customers", exact=True)).to_be_visible()
    browser.press("Add source")
    browser.head("Warehouse")


def create_model(browser: Browser, name: str, key: str, sql: str) -> None:
    page = browser.page
    browser.go("/models/new")
    page.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(sql)
    page.get_by_label("Name").fill(name)
    page.wait_for_timeout(400)  # what is typed goes to the server after a pause
    browser.press("Preview")
    expect(page.get_by_role("columnheader", name=key, exact=True)).to_be_visible()
    page.get_by_label("Unique key").select_option(key)
    expect(page.get_by_text("No empty values")).to_be_visible()
    expect(page.get_by_text("values, all different")).to_be_visible()
    browser.press("Create model")
    browser.head(name)


def add_destination(browser: Browser) -> None:
    page = browser.page
    browser.go("/destinations")
    browser.follow("Add destination")
    expect(page.get_by_text("Segment Profiles", exact=True)).to_be_visible()
    browser.press("Next")
    expect(page.get_by_label("Warehouse source")).to_have_value("warehouse")
    browser.press("Create destination")
    expect(page.get_by_label("Endpoint region")).to_have_value("local")
    page.get_by_label("Name").fill("Customer profiles")
    page.wait_for_timeout(400)
    browser.press("Save changes")
    browser.head("Customer profiles")


def add_mapping(browser: Browser, model: str, action: str) -> None:
    page = browser.page
    browser.go("/destinations/profiles")
    browser.follow("Add mapping")
    page.get_by_label("Model", exact=True).select_option(model)
    page.get_by_text(action, exact=True).click()
    page.wait_for_timeout(200)
    browser.press("Next")
    expect(page.get_by_role("heading", name="What this row would do")).to_be_visible()
    expect(page.locator(".of-will")).to_contain_text("Create a profile")
    expect(page.locator(".of-json")).to_contain_text("messageId")
    browser.press("Create mapping")
    browser.head("Customer profiles")
    expect(page.get_by_role("link", name=model, exact=True).first).to_be_visible()


def enable_and_sync(browser: Browser) -> None:
    page = browser.page
    for name in MODELS:
        switch = page.get_by_role("switch", name=f"Enable {name}")
        switch.click()
        expect(switch).to_have_attribute("aria-checked", "true")
    page.get_by_label("Parts").get_by_role("link", name="Settings").click()
    page.locator("main").get_by_role("switch", name="Enable Destination", exact=True).click()
    browser.press("Save changes")
    expect(page.get_by_text("Destination enabled")).to_be_visible()
    browser.press("Sync now")
    page.get_by_role("menuitem", name="Sync all mappings").click()
    expect(page.get_by_text("4 syncs started")).to_be_visible()
    expect(page.get_by_text("Succeeded").or_(page.get_by_text("Partly"))).to_have_count(4, timeout=60_000)


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


def test_no_request_leaves_the_server(walked: Browser) -> None:
    walked.go("/")
    outside = [url for url in walked.asked if not url.startswith((walked.server.url, "data:", "blob:"))]
    assert outside == []


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
    "/rules", "/profiles", "/spaces/production/find/user_id:1", "/debugger", "/usage", "/settings", "/help",
    "/components",
)  # fmt: skip


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
    for path in SCREENS:
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


def test_hostile_names_and_values_are_shown_as_text(walked: Browser) -> None:
    traits = {"first_name": HOSTILE, HOSTILE: HOSTILE}
    walked.send(
        {"type": "identify", "userId": HOSTILE, "traits": traits},
        {"type": "track", "userId": HOSTILE, "event": HOSTILE, "properties": {HOSTILE: HOSTILE}},
        {"type": "track", "userId": HOSTILE, "event": ""},
    )
    for path in ("/debugger", f"/spaces/production/find/user_id:{quote(HOSTILE, safe='')}", "/profiles", "/"):
        walked.go(path)
        walked.page.wait_for_timeout(1000)
        assert walked.page.evaluate("window.harmed") is None
        assert "}}49" not in walked.page.inner_text("body")
        if path not in ("/", "/profiles"):  # whose lists are short
            assert HOSTILE in walked.page.inner_text("body")
