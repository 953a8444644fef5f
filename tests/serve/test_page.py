"""Tests of the page in a real browser: drawings and photos get the right predictions."""

from __future__ import annotations

import time
from pathlib import Path
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
SIX = FOLDER / "6-slanted-icon.png"


def texts(browser: Browser, by: str, value: str) -> list[str]:
    return [element.text for element in browser.driver.find_elements(by, value)]


def wait_for(browser: Browser, labels: list[str]) -> None:
    """Wait until the cards show these labels; "–" is an empty card."""
    deadline = time.monotonic() + 15
    shown: Any = None
    while shown != labels:
        assert time.monotonic() < deadline, shown
        time.sleep(0.05)
        shown = texts(browser, By.TAG_NAME, "output")


def draw(browser: Browser, strokes: list[str], pointer: str) -> None:
    """Draw strokes on the page with the mouse, a pen or a finger."""
    left, top, size = browser.script(
        "(({left, top, width}) => [left, top, width])"
        "(document.getElementById('paper').getBoundingClientRect())"
    )
    device: Any = PointerInput
    hand: Any = ActionBuilder(browser.driver, mouse=device(pointer, f"a {pointer}"), duration=2)
    for stroke in strokes:
        for index, (x, y) in enumerate(smooth(points_of(stroke), 6)):
            hand.pointer_action.move_to_location(
                int(left + size * (0.2 + 0.06 * x)), int(top + size * (0.12 + 0.76 * y / 14))
            )
            if index == 0:
                hand.pointer_action.pointer_down()
        hand.pointer_action.pointer_up()
    hand.perform()


@pytest.fixture
def page(chromium: Browser, server: Server) -> Browser:
    chromium.console(), chromium.requests()
    return chromium


def only_own_requests(browser: Browser, server: Server) -> bool:
    own = f"http://127.0.0.1:{server.port}/"
    requests = browser.requests()
    return bool(requests) and all(url.startswith(own) for url in requests)


@pytest.mark.parametrize(
    ("size", "pointer", "digit"),
    [(DESKTOP, "mouse", 5), (DESKTOP, "pen", 8), (PHONE, "touch", 3), (PHONE, "touch", 4)],
    ids=["mouse", "pen", "finger", "finger, two strokes"],
)
def test_drawn_digit_is_classified(
    page: Browser, server: Server, size: Any, pointer: str, digit: int
) -> None:
    page.open(f"http://127.0.0.1:{server.port}/", size)
    wait_for(page, ["–"] * len(FILES))
    draw(page, HANDS["upright"][digit], pointer)
    wait_for(page, [str(digit)] * len(FILES))
    assert texts(page, By.TAG_NAME, "h2") == list(FILES)
    bars = page.script(
        "[...document.querySelectorAll('article')].map(card =>"
        " [...card.querySelectorAll('.fill')].map(bar => parseFloat(bar.style.width)))"
    )
    for card in bars:
        assert len(card) == 10
        assert max(range(10), key=lambda index: card[index]) == digit
        assert sum(card) == pytest.approx(100, abs=0.1)
    times = texts(page, By.CLASS_NAME, "time")
    assert all("µs · " in text or "ms · " in text for text in times)
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


def test_chosen_dropped_and_unreadable_files(page: Browser, server: Server) -> None:
    page.open(f"http://127.0.0.1:{server.port}/", DESKTOP)
    page.driver.find_element(By.ID, "photo").send_keys(str(SEVEN))
    wait_for(page, ["7"] * len(FILES))
    # A program cannot drop a file into a browser, so a script dispatches the event with a file.
    page.driver.find_element(By.ID, "photo").send_keys(str(SIX))
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
    assert status == "This browser cannot show the file. Choose a PNG or JPEG image."
    assert only_own_requests(page, server)


def test_token_moves_from_address_to_cookie(page: Browser) -> None:
    with serving(EXPORTED / FILES[0], host="0.0.0.0") as open_to_all:
        address = f"http://127.0.0.1:{open_to_all.port}/"
        page.open(f"{address}?token={open_to_all.token}")
        assert page.driver.current_url == address
        draw(page, HANDS["upright"][5], "mouse")
        wait_for(page, ["5"])
        assert page.script("document.cookie") == ""  # scripts cannot read the cookie
        assert page.console() == []  # the end of the server may refuse the request of a last stroke


def test_stopped_server_is_reported(page: Browser) -> None:
    with serving(EXPORTED / FILES[0]) as stopping:
        page.open(f"http://127.0.0.1:{stopping.port}/")
        wait_for(page, ["–"])
    ActionChains(page.driver).click(page.driver.find_element(By.ID, "paper")).perform()
    deadline = time.monotonic() + 10
    while not (status := page.driver.find_element(By.ID, "status").text):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert status == "The server does not respond. Check that it is running."


def test_a_model_of_other_classes(chromium: Browser) -> None:
    model = Path(__file__).parents[1] / "golden/metadata/with_metadata.tflite"
    with serving(model) as running:
        chromium.open(f"http://127.0.0.1:{running.port}/", DESKTOP)
        chromium.driver.find_element(By.ID, "photo").send_keys(str(SEVEN))
        wait_for(chromium, [running.predict(SEVEN).json["answers"][0]["label"]])
        assert chromium.driver.title.startswith("Classify an image")
        assert "digit" not in chromium.driver.find_element(By.TAG_NAME, "body").text
