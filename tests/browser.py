"""A real Chromium without a window: its pages, its console and its requests."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests import needs

PROGRAMS = ("chromium", "chromedriver")
# axe-core 4.14.1 of npm, unchanged: the tests download nothing.
AXE = Path(__file__).parent / "axe-core" / "axe.min.js"
# No request of its own may reach the network.
_ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip
# Width, height and device pixels per CSS pixel.
DESKTOP, PHONE = (1280, 900, 1.0), (390, 844, 2.0)


def missing() -> str | None:
    """Return the reason why no browser can be started, or None."""
    return needs.missing(*PROGRAMS)


@dataclass(frozen=True)
class Browser:
    """A running browser, driven by selenium."""

    driver: Any

    def open(self, url: str, size: tuple[int, int, float] = DESKTOP, dark: bool = False) -> None:
        """Show a page at a size, in light or dark colours."""
        width, height, scale = size
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get(url)

    def script(self, code: str) -> Any:
        """Return the value of a JavaScript expression on the page."""
        return self.driver.execute_script(f"return {code}")

    def console(self) -> list[str]:
        """Return the messages in the console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return the requested URLs since the last call, except data:, about: and blob: URLs."""
        log = self.driver.get_log("performance")
        urls = [
            event["params"]["request"]["url"]
            for event in (json.loads(entry["message"])["message"] for entry in log)
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in urls if urlsplit(url).scheme not in ("data", "about", "blob")]

    def axe_violations(self) -> list[str]:
        """Return the serious and critical problems for disabled people that axe-core finds.

        Each is one line: the rule, its description, and the first elements. DevTools run the script
        in a world of its own, so the page's Content-Security-Policy does not stop it. It needs
        scripts to be enabled.
        """
        tree = self.driver.execute_cdp_cmd("Page.getFrameTree", {})
        world = self.driver.execute_cdp_cmd(
            "Page.createIsolatedWorld", {"frameId": tree["frameTree"]["frame"]["id"]}
        )
        run = (
            "axe.run(document, {resultTypes: ['violations']}).then(results => JSON.stringify("
            "results.violations.filter(({impact}) => ['serious', 'critical'].includes(impact))))"
        )
        response = self.driver.execute_cdp_cmd(
            "Runtime.evaluate",
            {
                "expression": f"{AXE.read_text()}\n{run}", "awaitPromise": True,
                "contextId": world["executionContextId"],
            },
        )  # fmt: skip
        assert "exceptionDetails" not in response, response["exceptionDetails"]
        return [
            f"{rule['id']}: {rule['help']}: "
            + ", ".join(node["html"][:120] for node in rule["nodes"][:4])
            for rule in json.loads(response["result"]["value"])
        ]

    def screenshot(self, path: Path, height: int | None = None) -> None:
        """Save the page as a PNG: all of it, or its upper part of a height."""
        clip = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        response = self.driver.execute_cdp_cmd(
            "Page.captureScreenshot",
            {
                "captureBeyondViewport": True,
                "clip": {**clip, "height": min(clip["height"], height or 1e9), "scale": 1},
            },
        )
        path.write_bytes(base64.b64decode(response["data"]))


@contextlib.contextmanager
def start() -> Iterator[Browser]:
    """Start a browser with a new profile; end both on exit."""
    from selenium import webdriver

    with tempfile.TemporaryDirectory(prefix="lenet-edge-chromium-") as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for argument in (*_ARGUMENTS, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        driver = webdriver.Chrome(options=options, service=service)
        try:
            browser = Browser(driver)
            browser.open("about:blank")
            browser.requests()  # discard those of the first page
            yield browser
        finally:
            driver.quit()
