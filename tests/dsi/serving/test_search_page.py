"""The page, in a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from serving_doubles import Server
from small_index import MARKUP

CHROMIUM = shutil.which("chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
# The content security policy of the page forbids Playwright's polling with string expressions.
expect = playwright.expect
expect.set_options(timeout=120_000)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium (apt: chromium)")
SWITCHES = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield started
        started.close()


@pytest.fixture
def page(browser, server) -> Iterator[Any]:
    """The page in a window of its own; whatever it complains of fails the test."""
    context = browser.new_context(viewport={"width": 1000, "height": 800})
    context.set_default_timeout(120_000)
    made = context.new_page()
    complaints: list[str] = []
    asked: list[str] = []
    made.on("console", lambda message: complaints.append(message.text))
    made.on("pageerror", lambda error: complaints.append(str(error)))
    made.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
    made.on("request", lambda request: asked.append(request.url))
    made.goto(server.address)
    yield made
    context.close()
    # The browser itself logs a line for a refused request.
    assert not [each for each in complaints if "status of 400" not in each]
    assert all(url.startswith((server.address, "data:")) for url in asked)


def ask(page: Any, query: str) -> None:
    page.keyboard.type(query)
    page.keyboard.press("Enter")
    page.wait_for_selector(".hit")
    expect(page.locator("#status")).to_contain_text(" of ")


def test_typing_finds_documents_with_their_words_marked(page):
    assert page.evaluate("document.activeElement.id") == "query"
    ask(page, "boiling water")
    first = page.locator(".hit").first
    assert first.locator("h2").inner_text() == "Kettles"
    assert first.locator(".snippet").inner_text() == "A kettle boils water for tea."
    assert first.locator(".snippet mark").all_inner_texts() == ["boils", "water"]
    told = page.locator("#status").inner_text()
    assert told.startswith("7 results of 7 documents · ")
    assert told.endswith(" · version 0001")
    assert " ms (search " in told


def test_titles_and_texts_are_text_and_never_markup(page):
    ask(page, "browser")
    hostile = page.locator(".hit", has_text="onerror").first
    assert hostile.locator("h2").inner_text() == MARKUP
    assert page.locator("main img, main script").count() == 0
    assert hostile.locator(".snippet").inner_text() == f"</script> {MARKUP} boils the browser"


def test_the_score_is_taken_apart(page):
    ask(page, "boils water")
    first = page.locator(".hit").first
    first.locator("summary").click()
    cells = [row.split("\t") for row in first.locator("tbody tr").all_inner_texts()]
    assert [cell[1] for cell in cells[:3]] == ["boil", "water", "boil water"]
    adds = [float(cell[-1].replace("−", "-")) for cell in cells]
    total = first.locator("tfoot .number").inner_text().replace("−", "-")
    assert sum(adds) == pytest.approx(float(total), abs=0.003)


def test_it_can_be_used_without_a_mouse(page):
    ask(page, "boils water")
    focused = "[...document.querySelectorAll('.hit')].indexOf(document.activeElement)"
    for key, place in (("ArrowDown", 0), ("ArrowDown", 1), ("ArrowUp", 0)):
        page.keyboard.press(key)
        assert page.evaluate(focused) == place
    page.keyboard.press("Enter")
    assert page.locator(".hit").first.locator("details").get_attribute("open") is not None
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.id") == "query"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("/")
    page.keyboard.type("tide")  # the old query is selected, and replaced
    page.keyboard.press("Enter")
    expect(page).to_have_title("tide · Search")
    expect(page.locator(".hit h2").first).to_have_text("harbour")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "query"


def test_a_search_has_an_address(page, server):
    page.goto(f"{server.address}/?q=ink&k=5")
    page.wait_for_selector(".hit")
    assert page.locator(".hit").count() == 5
    assert page.locator(".hit h2").first.inner_text() == "Pens"
    assert page.locator("#query").input_value() == "ink"


def test_what_is_wrong_is_said(page):
    page.locator("#query").fill("x" * 10_001)
    page.keyboard.press("Enter")
    page.wait_for_selector("#status.wrong")
    assert "longer than 10,000 characters" in page.locator("#status").inner_text()


def test_it_follows_the_theme_and_fits_a_phone(browser, server):
    grounds = []
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme, viewport={"width": 360, "height": 700})
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.goto(f"{server.address}/?q=browser")
        page.wait_for_selector(".hit")
        page.locator("summary").first.click()
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        grounds.append(sum(map(int, ground[4:-1].split(","))))
        context.close()
    assert grounds[0] > 600 > 150 > grounds[1]


def test_it_asks_for_the_token(browser, trained, tmp_path):
    (tmp_path / "token").write_text("s3cret")
    server = Server(trained, "--token_file", str(tmp_path / "token"))
    context = browser.new_context()
    context.set_default_timeout(120_000)
    page = context.new_page()
    page.goto(f"{server.address}/?q=ink")
    for typed in ("wrong", "s3cret"):
        page.wait_for_selector("#token-form:not([hidden])")
        page.wait_for_selector("#status.wrong")
        page.locator("#token").fill(typed)
        page.keyboard.press("Enter")
        expect(page.locator("#token")).to_have_value("")
    page.wait_for_selector(".hit")
    assert page.locator(".hit h2").first.inner_text() == "Pens"
    assert page.locator("#token-form").is_hidden()
    context.close()
    assert server.stop()[0] == 0
