"""The walk of a first day in the web app, as a person does it: a real browser, a real server, a real warehouse."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Page, expect, sync_playwright

import onefold
from live import Server, eventually

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

    def login(self) -> None:
        self.page.goto(f"{self.server.url}/login")
        self.page.fill("#name", NAME)
        self.page.fill("#password", PASSWORD)
        self.page.click("button[type=submit]")
        self.head("Overview")

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


@contextmanager
def opened(folder: Path, chromium: str) -> Iterator[Browser]:
    """A folder, served; a browser that nobody is logged in with."""
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


DUCKDB = ("DuckDB", "Path", "nowhere.duckdb", "warehouse.duckdb")


def walk(browser: Browser, source: tuple[str, str, str, str] = DUCKDB) -> None:
    """From an empty folder to profiles of a warehouse: kind, label of its place, a wrong place, the right one."""
    first_start(browser)
    create_space(browser)
    add_source(browser, *source)
    for name, (key, sql, _) in MODELS.items():
        create_model(browser, name, key, sql)
    add_destination(browser)
    for name, (_, _, action) in MODELS.items():
        add_mapping(browser, name, action)
    enable_and_sync(browser)


# --- its steps ----------------------------------------------------------------------------------------


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


def add_source(browser: Browser, kind: str, label: str, wrong: str, right: str) -> None:
    """Add a source of a kind, whose place is asked for by a label; first at a wrong place."""
    page = browser.page
    browser.go("/sources")
    browser.follow("Add source")
    if kind != DUCKDB[0]:  # which is chosen already
        page.locator(".of-choice").get_by_text(kind, exact=True).click()
        expect(page.locator(".of-choice[aria-pressed=true]")).to_contain_text(kind)
    page.get_by_label("Name").fill("Warehouse")
    page.get_by_label(label).fill(wrong)
    page.wait_for_timeout(300)  # what is typed goes to the server after a pause
    browser.press("Test connection")
    expect(page.locator("main").get_by_role("alert").first).to_contain_text(wrong.rpartition("@")[2].partition("/")[0])
    page.get_by_label(label).fill(right)
    page.wait_for_timeout(300)
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
