"""A real Chromium without a window: what it shows, says and asks for."""

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
# Nothing that it does by itself may reach for the network.
_ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip
# Width, height and the pixels a dot has: a desk and a phone.
DESKTOP, PHONE = (1280, 900, 1.0), (390, 844, 2.0)


def missing() -> str | None:
    """Return why no browser can be started here, or None."""
    return needs.missing(*PROGRAMS)


@dataclass(frozen=True)
class Browser:
    """One browser, and the selenium driver that moves it."""

    driver: Any

    def open(self, url: str, size: tuple[int, int, float] = DESKTOP, dark: bool = False) -> None:
        """Show a page at a size, in light or dark colours."""
        width, height, dots = size
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": dots, "mobile": width < 600},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get(url)

    def script(self, code: str) -> Any:
        """Return what a piece of JavaScript says of the page."""
        return self.driver.execute_script(f"return {code}")

    def console(self) -> list[str]:
        """Return what the page has complained of since the last time this was asked."""
        return [one["message"] for one in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return the addresses asked for since the last time, but for data: and about: ones."""
        log = self.driver.get_log("performance")
        asked = [
            event["params"]["request"]["url"]
            for event in (json.loads(one["message"])["message"] for one in log)
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in asked if urlsplit(url).scheme not in ("data", "about", "blob")]

    def screenshot(self, path: Path, height: int | None = None) -> None:
        """Save the page as a PNG, to its end or down to a height."""
        clip = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        answer = self.driver.execute_cdp_cmd(
            "Page.captureScreenshot",
            {
                "captureBeyondViewport": True,
                "clip": {**clip, "height": min(clip["height"], height or 1e9), "scale": 1},
            },
        )
        path.write_bytes(base64.b64decode(answer["data"]))


@contextlib.contextmanager
def start() -> Iterator[Browser]:
    """Start a browser with a profile of its own, and end it."""
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
            browser.requests()  # of its own first page
            yield browser
        finally:
            driver.quit()
