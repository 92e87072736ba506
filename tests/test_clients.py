"""The SDKs that people use, unmodified, deliver to a real server: Python, Node, and a browser."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from live import KEY, Live, Server, eventually, serving


@pytest.fixture
def live(tmp_path: Path) -> Live:
    return Live(tmp_path / "live")


@pytest.fixture
def server(live: Live) -> Iterator[Server]:
    with serving(live) as found:
        yield found


def arrived(live: Live, count: int) -> list[dict[str, Any]]:
    """The calls of the source once there are so many, in the order in which they came."""

    def look() -> list[dict[str, Any]] | None:
        with live.workspace() as workspace:
            found = workspace.debug("web")[0]
        return found if len(found) >= count else None

    found: list[dict[str, Any]] = eventually(look)
    assert [call["status"] for call in found] == ["accepted"] * count, found
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK's and its libraries', which we do not change
@pytest.mark.parametrize("compressed", [False, True])
def test_the_python_sdk_delivers_every_type_of_call(live: Live, server: Server, compressed: bool) -> None:
    from segment.analytics.client import Client

    failed: list[object] = []
    sdk = Client(KEY, host=server.url, gzip=compressed, on_error=lambda error, _: failed.append(error))
    sdk.identify("ada", {"email": "ada@example.com", "plan": "pro"})
    sdk.track("ada", "Order Completed", {"total": 12.5})
    sdk.page("ada", "Docs", "Home")
    sdk.screen("ada", "App", "Start")
    sdk.group("ada", "acme", {"industry": "steel"})
    sdk.alias("anonymous-1", "ada")
    for number in range(300):
        sdk.track("ada", "Counted", {"number": number})
    sdk.shutdown()
    assert failed == []
    found = arrived(live, 306)
    assert [call["type"] for call in found[:6]] == ["identify", "track", "page", "screen", "group", "alias"]
    assert [call["call"]["properties"]["number"] for call in found[6:]] == list(range(300))
    assert found[0]["call"]["context"]["library"]["name"] == "analytics-python"
    (profile,) = live.profiles()
    assert profile["traits"] == {"email": "ada@example.com", "plan": "pro"}


NODE = """
const { Analytics } = require('@segment/analytics-node')
const analytics = new Analytics({ writeKey: process.argv[1], host: process.argv[2], flushAt: 50, maxRetries: 0 })
analytics.on('error', (error) => { console.error(error); process.exitCode = 1 })
analytics.identify({ userId: 'ada', traits: { email: 'ada@example.com' } })
analytics.group({ userId: 'ada', groupId: 'acme', traits: { industry: 'steel' } })
analytics.page({ anonymousId: 'device', name: 'Home' })
analytics.screen({ anonymousId: 'device', name: 'Start' })
analytics.alias({ userId: 'ada', previousId: 'device' })
for (let number = 0; number < 200; number++)
  analytics.track({ userId: 'ada', event: 'Counted', properties: { number } })
analytics.closeAndFlush({ timeout: 30000 })
"""


def test_the_node_sdk_delivers_every_type_of_call(live: Live, server: Server, packages: Path) -> None:
    words = ["node", "-e", NODE, KEY, server.url]
    ran = subprocess.run(words, cwd=packages, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    found = arrived(live, 205)
    assert sorted(call["type"] for call in found)[:3] == ["alias", "group", "identify"]
    numbers = [call["call"]["properties"]["number"] for call in found if call["type"] == "track"]
    assert sorted(numbers) == list(range(200))
    assert found[0]["call"]["context"]["library"]["name"] == "@segment/analytics-node"
    assert {len(profile["external_ids"]) for profile in live.profiles()} == {1, 2}


# --- a browser ----------------------------------------------------------------------------------------

PAGE = """<!doctype html><title>A shop</title><script src="/umd/index.js"></script><script>
const options = { integrations: { 'Segment.io': { deliveryStrategy: STRATEGY } } }
const analytics = AnalyticsNext.AnalyticsBrowser.load({ writeKey: 'KEY', cdnURL: 'SERVER' }, options)
window.sent = (async () => {
  await analytics.page('Home')
  await analytics.identify('ada', { email: 'ada@example.com' })
  await analytics.track('Order Completed', { total: 12.5 })
  await analytics.group('acme', { industry: 'steel' })
  return true
})()
</script>"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def shop(tmp_path: Path, packages: Path) -> Iterator[tuple[Path, str]]:
    """A web site of another origin: its folder and its address."""
    folder = tmp_path / "site"
    shutil.copytree(packages / "node_modules/@segment/analytics-next/dist/umd", folder / "umd")
    site = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=site.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{site.server_address[1]}"
    site.shutdown()
    thread.join()
    site.server_close()


@pytest.mark.parametrize("strategy", ["undefined", "{ strategy: 'batching', config: { size: 2, timeout: 100 } }"])
def test_a_page_in_a_browser_delivers_from_another_origin(
    live: Live, server: Server, shop: tuple[Path, str], strategy: str, chromium: str
) -> None:
    from playwright.sync_api import sync_playwright

    folder, address = shop
    text = PAGE.replace("KEY", KEY).replace("SERVER", server.url).replace("STRATEGY", strategy)
    (folder / "index.html").write_text(text)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        assert page.evaluate("window.sent")
        found = arrived(live, 4)
        browser.close()
    assert {call["type"] for call in found} == {"page", "identify", "track", "group"}
    assert all(url.startswith("http://127.0.0.1:") for url in asked), asked
    assert found[0]["call"]["context"]["page"]["title"] == "A shop"
    (profile,) = live.profiles()
    assert {item["type"] for item in profile["external_ids"]} == {"user_id", "email", "anonymous_id"}
