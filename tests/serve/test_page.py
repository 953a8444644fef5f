"""The page in a real browser: one draws, and sees what each model says."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.browser import DESKTOP, PHONE, Browser
from tests.data.draw import FOLDER, HANDS, points_of, smooth
from tests.serve.conftest import EXPORTED, FILES, Server, serving

pytest.importorskip("selenium")
from selenium.webdriver import ActionChains
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.by import By

SEVEN = FOLDER / "7-hasty-crayon.jpg"
OTHERS = FOLDER / "6-slanted-icon.png"


def wait_for(browser: Browser, answers: list[str]) -> None:
    deadline = time.monotonic() + 15
    found: Any = None
    while found != answers:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
        found = [one.text for one in browser.driver.find_elements(By.TAG_NAME, "output")]


def draw(browser: Browser, strokes: list[str], pointer: str) -> None:
    """Write on the page's field as a hand does, with the mouse, a pen or a finger."""
    left, top, size = browser.script(
        "(({left, top, width}) => [left, top, width])"
        "(document.getElementById('paper').getBoundingClientRect())"
    )
    device: Any = PointerInput
    hand: Any = ActionBuilder(browser.driver, mouse=device(pointer, f"a {pointer}"), duration=2)
    for stroke in strokes:
        for place, (x, y) in enumerate(smooth(points_of(stroke), 6)):
            hand.pointer_action.move_to_location(
                int(left + size * (0.2 + 0.06 * x)), int(top + size * (0.12 + 0.76 * y / 14))
            )
            if place == 0:
                hand.pointer_action.pointer_down()
        hand.pointer_action.pointer_up()
    hand.perform()


@pytest.fixture
def page(chromium: Browser, server: Server) -> Browser:
    chromium.console(), chromium.requests()
    return chromium


def only_own_requests(browser: Browser, server: Server) -> bool:
    own = f"http://127.0.0.1:{server.port}/"
    asked = browser.requests()
    return bool(asked) and all(url.startswith(own) for url in asked)


@pytest.mark.parametrize(
    ("size", "pointer", "digit"),
    [(DESKTOP, "mouse", 5), (DESKTOP, "pen", 8), (PHONE, "touch", 3), (PHONE, "touch", 4)],
    ids=["mouse", "pen", "finger", "finger, two strokes"],
)
def test_a_drawn_digit_is_seen(
    page: Browser, server: Server, size: Any, pointer: str, digit: int
) -> None:
    page.open(f"http://127.0.0.1:{server.port}/", size)
    wait_for(page, ["–"] * len(FILES))
    draw(page, HANDS["upright"][digit], pointer)
    wait_for(page, [str(digit)] * len(FILES))
    names = [one.text for one in page.driver.find_elements(By.TAG_NAME, "h2")]
    assert names == list(FILES)
    bars = page.script(
        "[...document.querySelectorAll('article')].map(card =>"
        " [...card.querySelectorAll('.fill')].map(bar => parseFloat(bar.style.width)))"
    )
    for card in bars:
        assert len(card) == 10
        assert max(range(10), key=lambda place: card[place]) == digit
        assert sum(card) == pytest.approx(100, abs=0.1)
    times = [one.text for one in page.driver.find_elements(By.CLASS_NAME, "time")]
    assert all("µs · " in one or "ms · " in one for one in times)
    assert page.script("document.documentElement.scrollWidth") <= size[0]
    assert page.console() == []
    assert only_own_requests(page, server)


def test_clear_and_draw_again(page: Browser, server: Server) -> None:
    page.open(f"http://127.0.0.1:{server.port}/", DESKTOP, dark=True)
    for digit in (7, 2):
        draw(page, HANDS["round"][digit], "mouse")
        wait_for(page, [str(digit)] * len(FILES))
        page.driver.find_element(By.ID, "clear").click()
        wait_for(page, ["–"] * len(FILES))
    assert page.console() == []


def test_a_photo_a_file_that_is_dropped_and_none(page: Browser, server: Server) -> None:
    page.open(f"http://127.0.0.1:{server.port}/", DESKTOP)
    page.driver.find_element(By.ID, "photo").send_keys(str(SEVEN))
    wait_for(page, ["7"] * len(FILES))
    # A browser lets no program drop a real file; the event is the page's own, the file is real.
    page.driver.find_element(By.ID, "photo").send_keys(str(OTHERS))
    wait_for(page, ["6"] * len(FILES))
    page.driver.execute_script(
        "return document.getElementById('paper').toBlob(blob => {"
        " const data = new DataTransfer(); data.items.add(new File([blob], 'a.png',"
        " {type: 'image/png'})); document.getElementById('clear').click();"
        " document.getElementById('drop').dispatchEvent("
        "new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})) })"
    )
    wait_for(page, ["6"] * len(FILES))
    assert page.console() == []
    text = str(EXPORTED / "lenet_int8.tflite.json")
    page.driver.find_element(By.ID, "photo").send_keys(text)
    wait_for(page, ["–"] * len(FILES))
    status = page.driver.find_element(By.ID, "status").text
    assert status == "This is not an image that can be shown. Take a PNG or JPEG file."
    assert only_own_requests(page, server)


def test_the_token_opens_the_page_and_leaves_the_address(page: Browser) -> None:
    with serving(EXPORTED / FILES[0], host="0.0.0.0") as open_to_all:
        address = f"http://127.0.0.1:{open_to_all.port}/"
        page.open(f"{address}?token={open_to_all.token}")
        assert page.driver.current_url == address
        draw(page, HANDS["upright"][5], "mouse")
        wait_for(page, ["5"])
        assert page.script("document.cookie") == ""  # no script reads it
    assert page.console() == []


def test_a_server_that_has_gone_is_said(page: Browser) -> None:
    with serving(EXPORTED / FILES[0]) as leaving:
        page.open(f"http://127.0.0.1:{leaving.port}/")
        wait_for(page, ["–"])
    ActionChains(page.driver).click(page.driver.find_element(By.ID, "paper")).perform()
    deadline = time.monotonic() + 10
    while not (said := page.driver.find_element(By.ID, "status").text):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert said == "The server does not answer. Is it still running?"
