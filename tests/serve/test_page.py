"""Tests of the page in a real browser: drawings and photos get the right predictions."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from lenet_edge.data import mnist
from tests.browser import DESKTOP, PHONE, Browser
from tests.conftest import LenetEdge
from tests.data.draw import FOLDER, HANDS, points_of, smooth
from tests.serve.conftest import EXPORTED, FILES, Server, serving

pytest.importorskip("selenium")
from selenium.webdriver import ActionChains
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

SEVEN = FOLDER / "7-hasty-crayon.jpg"
SIX = FOLDER / "6-slanted-icon.png"
GOLDEN = Path(__file__).parents[1] / "golden"
JSON = {"Content-Type": "application/json"}
CLOTHES = [
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
    "Ankle boot",
]  # fmt: skip


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
    assert any("ERR_CONNECTION_REFUSED" in line for line in page.console())


def test_samples_pauses_and_links(page: Browser, server: Server) -> None:
    address = f"http://127.0.0.1:{server.port}/"
    set_latency(page, 500)  # a button that appears before its image would predict nothing
    page.open(address, (1400, 900, 1.0))
    wait_for(page, ["–"] * len(FILES))
    samples = wait_until(page, "#samples button", 10)
    set_latency(page, 0)
    # The keyboard alone gives an image; the models get the very pixels of MNIST.
    samples[7].send_keys(Keys.ENTER)
    wait_for(page, ["7"] * len(FILES))
    seen = page.script(
        "[...document.getElementById('seen').getContext('2d').getImageData(0, 0, 28, 28).data]"
    )
    test = mnist.load("test")
    assert seen[::4] == test.images[np.flatnonzero(test.labels == 7)[0]].ravel().tolist()
    assert page.axe_violations() == []
    for width in (1400, 768, 390):
        for dark in (False, True):
            page.open(address, (width, 900, 1.0), dark)
            wait_for(page, ["–"] * len(FILES))
            assert page.script("document.documentElement.scrollWidth") <= width
    # A paused model is not run.
    page.open(address, DESKTOP)
    wait_for(page, ["–"] * len(FILES))
    draw(page, HANDS["upright"][7], "mouse")
    wait_for(page, ["7"] * len(FILES))
    pauses = page.driver.find_elements(By.CLASS_NAME, "pause")
    pauses[0].click()
    wait_for(page, ["–", "7"])
    page.requests()
    draw_again(page, 2)
    wait_for(page, ["–", "2"])
    assert {urlsplit(url).query for url in page.requests()} == {"models=1"}
    everything = page.driver.find_element(By.ID, "pause-all")
    assert everything.text == "Pause all models of the server"
    everything.click()
    wait_for(page, ["–", "–"])
    draw_again(page, 8)
    assert page.requests() == []
    everything.click()
    wait_for(page, ["8", "8"])
    # A link to a drawing: no request carries it.
    page.driver.find_element(By.ID, "link").click()
    wait_until(page, "#status:not(:empty):not(.wrong)", 1)
    fragment = page.script("location.hash")
    assert fragment.startswith("#drawing=")
    page.driver.get("about:blank")
    page.open(address + fragment, PHONE, dark=True)
    wait_for(page, ["8", "8"])
    assert page.axe_violations() == []
    requests = page.requests()
    assert any("predict" in url for url in requests)
    assert not any("#" in url or fragment[9:40] in url for url in requests)
    page.driver.find_element(By.ID, "clear").click()
    assert page.script("location.href") == address
    for rubbish in ("#drawing=AAA", "#drawing=%00", "#drawing", "#drawing=AAEA"):
        page.driver.execute_script(f"location.hash = {rubbish!r}")
        wait_until(page, "#status.wrong:not(:empty)", 1)
        assert page.driver.find_element(By.ID, "status").text.startswith("The link has no drawing")
        page.driver.find_element(By.ID, "clear").click()
    # A pasted image, and the camera of a phone.
    page.driver.execute_script(
        "fetch('samples/4.png').then(reply => reply.blob()).then(blob => {"
        " const data = new DataTransfer(); data.items.add(new File([blob], 'a.png',"
        " {type: 'image/png'})); dispatchEvent(new ClipboardEvent('paste', {clipboardData: data}))"
        "})"
    )
    wait_for(page, ["4", "4"])
    camera = page.driver.find_element(By.CLASS_NAME, "camera")
    assert not camera.is_displayed()
    page.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        assert camera.is_displayed()
        assert page.script("document.getElementById('camera').getAttribute('capture')")
    finally:
        page.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    assert page.console() == []


def set_latency(browser: Browser, milliseconds: int) -> None:
    conditions = {"offline": False, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.driver.execute_cdp_cmd(
        "Network.emulateNetworkConditions", {**conditions, "latency": milliseconds}
    )


def draw_again(browser: Browser, digit: int) -> None:
    browser.driver.find_element(By.ID, "clear").click()
    draw(browser, HANDS["upright"][digit], "mouse")


def wait_until(browser: Browser, selector: str, count: int) -> list[Any]:
    """Wait until so many elements match a selector."""
    deadline = time.monotonic() + 15
    found: list[Any]
    while len(found := browser.driver.find_elements(By.CSS_SELECTOR, selector)) != count:
        assert time.monotonic() < deadline, (selector, len(found))
        time.sleep(0.05)
    return found


def test_a_model_of_other_classes(
    chromium: Browser, tmp_path: Path, lenet_edge_here: LenetEdge
) -> None:
    """The classes of a model from elsewhere, and the samples of its recorded reference."""
    model = tmp_path / "clothes.onnx"
    shutil.copy(GOLDEN / "onnx" / "lenet_dynamo20.onnx", model)
    (tmp_path / "words.txt").write_text("\n".join(CLOTHES))
    test = mnist.load("test")
    np.savez(tmp_path / "images.npz", images=255 - test.images[:100], labels=test.labels[:100])
    done = lenet_edge_here("describe", model, "--labels", "words.txt", "--pixel-scale", "1/255",
                           "--data", "images.npz")  # fmt: skip
    assert done.returncode == 0, done.stderr
    with serving(model) as running:
        chromium.open(f"http://127.0.0.1:{running.port}/", PHONE)
        samples = wait_until(chromium, "#samples button", 10)
        assert [sample.get_attribute("title") for sample in samples] == CLOTHES
        samples[3].click()
        seen = {"pixels": (255 - test.images[np.flatnonzero(test.labels == 3)[0], ..., 0]).tolist()}
        direct = running.request("POST", "/predict", json.dumps(seen), JSON).json["answers"][0]
        wait_for(chromium, [direct["label"]])
        assert chromium.driver.title.startswith("Classify an image")
        body = chromium.driver.find_element(By.TAG_NAME, "body").text
        assert "The classes are T-shirt/top, Trouser, Pullover" in body
        assert "digit" not in body
        bars = chromium.script(
            "[...document.querySelectorAll('.track')].map(bar => bar.getBoundingClientRect())"
            ".map(({left, right}) => `${left} ${right}`)"
        )
        assert (len(bars), len({*bars})) == (10, 1)  # aligned, whatever the words beside them
        assert chromium.script("document.documentElement.scrollWidth") <= PHONE[0]
        assert chromium.axe_violations() == []
        assert chromium.console() == []
