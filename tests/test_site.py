"""The documentation site: built strictly, and every link, anchor and option of it is checked."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

from dsi.cli import VERBS, arguments_of

ROOT = Path(__file__).parents[1]
pytest.importorskip("mkdocs")


class Page(HTMLParser):
    """The links, anchors, assets and text of a page.

    Attributes:
        links: Targets of its links.
        assets: What it loads: scripts, style sheets, pictures.
        anchors: Names that links may lead to.
        words: Its text.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.assets: set[str] = set()
        self.anchors: set[str] = set()
        self.words: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.add(found["href"])
        if tag == "link" and found.get("rel") in ("stylesheet", "icon", "preconnect"):
            self.assets.add(found["href"])
        if "src" in found:
            self.assets.add(found["src"])

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, built without a network; a warning is an error."""
    out = tmp_path_factory.mktemp("site")
    proxies = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=ROOT,
        env={**os.environ, **proxies, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def pages(site):
    """Every page by its path, but for the one that is shown in place of a missing one."""
    files = [file for file in site.rglob("*.html") if file.name != "404.html"]
    return {file: Page(file) for file in files}


def test_links_lead_to_a_page_and_an_anchor_of_it(pages):
    for file, page in pages.items():
        for link in page.links:
            path, anchor = urldefrag(link)
            if path.startswith(("https:", "http:", "mailto:")):
                continue
            target = (file.parent / unquote(path)).resolve() if path else file
            target = target / "index.html" if target.is_dir() else target
            assert target in pages, f"{file}: {link}"
            assert not anchor or unquote(anchor) in pages[target].anchors, f"{file}: {link}"


def test_every_page_is_reached_from_the_navigation_of_the_first(site, pages):
    first = site / "index.html"
    reached = {(site / urldefrag(link)[0] / "index.html").resolve() for link in pages[first].links}
    assert set(pages) <= reached | {first}


def test_nothing_comes_from_another_server(site, pages):
    loaded = {asset for page in pages.values() for asset in page.assets}
    assert loaded
    assert not [asset for asset in loaded if "//" in asset]
    for sheet in site.rglob("*.css"):
        assert "url(http" not in sheet.read_text("utf-8")


@pytest.mark.parametrize("verb", VERBS)
def test_a_command_has_a_page_with_each_option_as_the_help_shows_it(verb, site, pages):
    page = pages[site / "commands" / verb / "index.html"]
    text = " ".join(" ".join(page.words).split())
    arguments = arguments_of(verb)
    assert {option.name for group in arguments.groups() for option in group.options} == {
        *arguments.hints
    } - {"sam"}  # a shorthand of `dsi compare`
    assert set(arguments.hints) - {"sam"} <= page.anchors
    for group in arguments.groups():
        for option in group.options:
            assert f"{option.name.upper()}" in text or f"--{option.name} {option.value}" in text
            assert option.facts in text


def test_what_can_be_imported_from_the_package_is_on_a_page(pages):
    import dsi

    anchors = {anchor for page in pages.values() for anchor in page.anchors}
    named = {f"dsi.{name}" for name in dsi.__all__ if not name.startswith("_")}
    assert named <= anchors
    bases = ("docids.kinds.base.Kind", "dsi.updating.strategies.base.Strategy")
    assert {*bases, "data_prep.generators.base.Generator"} <= anchors
    assert f"dsi.{dsi.Index.search.__qualname__}" in anchors
