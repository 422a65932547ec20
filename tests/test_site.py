"""The site: built once as people build it, and its pages read as files."""

import html
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

import nst_helpers as nst
from scripts import build_site

NOTEBOOKS = [path.stem for path in build_site.stored()]


class Page(HTMLParser):
    """What a page refers to, the anchors it has, and its text."""

    def __init__(self, path):
        super().__init__()
        self.links, self.pictures, self.anchors, self.text = [], [], set(), ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors.add(values.get("id"))
        if tag == "a":
            self.links.append(values.get("href") or "")
        if tag == "img":
            self.pictures.append(values)
        if tag in ("script", "link"):
            self.links.append(values.get("src") or values.get("href") or "")

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    # Sphinx's warnings, a broken link among them, are errors.
    assert build_site.build(folder) == 0
    return folder


@pytest.fixture(scope="module")
def pages(site):
    theirs = {"_modules", "_static"}
    found = {path: Page(path) for path in site.rglob("*.html") if not theirs & set(path.parts)}
    assert len(found) > 2 * len(NOTEBOOKS) + 8
    return found


def test_every_notebook_is_a_page_that_the_front_page_shows(site, pages):
    front = pages[site / "index.html"]
    for name in NOTEBOOKS:
        assert (site / "notebooks" / f"{name}.html").is_file()
        assert f"notebooks/{name}.html" in front.links
    assert len(front.pictures) > len(NOTEBOOKS)


def test_no_link_within_the_site_is_broken(site, pages):
    for path, page in pages.items():
        for link in {*page.links, *(picture["src"] for picture in page.pictures)}:
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = unquote(link).partition("#")
            target = (path.parent / name.partition("?")[0]).resolve() if name else path
            assert target.exists(), f"{link} on {path.relative_to(site)}"
            if anchor and target in pages and path.parent.name == "notebooks":
                assert anchor in pages[target].anchors, f"{link} on {path.relative_to(site)}"


def test_nothing_is_fetched_from_the_internet(pages):
    for page in pages.values():
        fetched = re.findall(
            r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(https?:[^"]*)"', page.source
        )
        assert not fetched


def test_formulas_are_mathml_and_none_is_left_as_it_was_written(site, pages):
    formulas = sum(page.source.count("<math") for page in pages.values())
    assert formulas > 50
    for name in NOTEBOOKS:
        source = pages[site / "notebooks" / f"{name}.html"].source
        prose = re.sub(r"(?s)<(pre|script|style|code)\b.*?</\1>", "", source)
        assert "$" not in html.unescape(re.sub(r"<[^>]*>", "", prose)), name


def test_the_package_s_names_are_all_described(site, pages):
    page = pages[site / "api.html"]
    assert {f"nst_helpers.{name}" for name in nst.__all__} <= page.anchors


def test_the_install_and_the_badges_are_not_on_the_pages(site, pages):
    for name in NOTEBOOKS:
        page = pages[site / "notebooks" / f"{name}.html"]
        assert "google.colab" not in page.text
        assert not any("badge" in picture["src"] for picture in page.pictures)


def test_links_to_other_files_lead_to_the_repository():
    text = "[a](CHANGELOG.md) [b](#there) [c](docs/glossary.md) ![d](docs/e.webp)"
    expected = text.replace("CHANGELOG", f"{build_site.REPOSITORY}CHANGELOG")
    assert build_site.with_links(text, Path(), build_site.PAGES) == expected
