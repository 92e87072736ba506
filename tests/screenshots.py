"""`make screenshots`: pictures of the web app for README and docs, of the demo's workspace, in docs/images/."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

import onefold
from live import Server
from onefold import demo

IMAGES = Path(__file__).parent.parent / "docs" / "images"
ROWS = 5000
# Name of the picture -> address and theme.
PICTURES = {
    "overview": ("/", "light"),
    "destination": ("/destinations/profiles", "light"),
    "mapping": ("/destinations/profiles/mappings/customers", "light"),
    "mapping-dark": ("/destinations/profiles/mappings/preferences", "dark"),
    "model": ("/models/customers", "light"),
    "profile": (f"/spaces/{demo.SPACE}/find/{demo.ADA}", "light"),
    "profiles": ("/profiles", "light"),
    "source": ("/sources/warehouse", "light"),
    "runs": ("/runs", "light"),
    "rejected": ("/rejected", "light"),
    "space": (f"/spaces/{demo.SPACE}", "light"),
    "rules": ("/rules", "light"),
    "debugger": ("/debugger", "light"),
    "usage": ("/usage", "light"),
    "alerts": ("/settings/alerts", "light"),
    "help": ("/help", "light"),
}


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    folder = Path(tempfile.mkdtemp()) / "shop"
    demo.run(folder, ROWS, lambda _: None)
    password = secrets.token_urlsafe(16)
    workspace = onefold.open(folder)
    workspace.create_user("Ada", "admin", password)
    partly = next(run["run_id"] for run in workspace.runs() if run["rejected"])
    workspace.close()
    server = Server(folder)
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        shown = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = shown.new_page(viewport={"width": 1440, "height": 900})
        page.goto(f"{server.url}/login")
        page.fill("#name", "Ada")
        page.fill("#password", password)
        page.click("button[type=submit]")
        page.wait_for_selector("main h1")
        for name, (path, theme) in {**PICTURES, "run": (f"/runs/{partly}", "light")}.items():
            page.context.add_cookies([{"name": "onefold_theme", "value": theme, "url": server.url}])
            page.goto(server.url + path)
            page.wait_for_selector(".of-page, .of-editor, main h1")
            page.wait_for_timeout(2500)  # until what is read in the background is shown
            page.screenshot(path=IMAGES / f"{name}.png")
        shown.close()
    server.end()
    shutil.rmtree(folder.parent)


if __name__ == "__main__":
    main()
