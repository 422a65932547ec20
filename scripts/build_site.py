"""Build the walkthrough as a site: ``make site``.

Lays the notebooks, with the outputs that they have, out beside README, glossary and pictures, and
lets Sphinx make output/site of it: a front page, navigation, search, formulas that need no
internet, launch buttons, the API's docstrings.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import nbformat

import nst_helpers as nst

ROOT = Path(__file__).parents[1]
SETTINGS = ROOT / "docs" / "site"
LANGUAGES = {
    "en": ["The walkthrough", "To look things up", "For the leader of a group", "Name by name"],
    "ko": ["노트북", "찾아보기", "모임을 이끄는 분께", "이름별 설명"],
}
# What the pages refer to; all else of the repository they link to on the web.
PAGES = ["README.md", "docs/glossary.md", "docs/leader.md"]
REPOSITORY = "https://github.com/nst-helpers/nst-helpers/blob/main/"


def lay_out(notebooks: list[Path], source: Path, language: str) -> None:
    """Put everything that the site is made of where links expect it, below ``source``."""
    folder = source / ("notebooks" if language == "en" else f"notebooks/{language}")
    folder.mkdir(parents=True)
    for notebook in notebooks:
        cells = without_badges(nbformat.read(notebook, as_version=4))
        nbformat.write(cells, folder / notebook.name)
    for name in ("docs", "images"):
        (source / name).mkdir()
        for file in (ROOT / name).iterdir():
            if file.suffix in (".webp", ".jpg", ".png", ".gif"):
                shutil.copy(file, source / name)
    pages = [in_language(page, language) for page in PAGES]
    for page in pages:
        text = with_links((ROOT / page).read_text(encoding="utf-8"), Path(page).parent, pages)
        (source / page).write_text(text, encoding="utf-8")
    index = (SETTINGS / in_language("index.md", language)).read_text(encoding="utf-8")
    index = index.replace("../readme.webp", "docs/readme.webp")
    index = index.replace("CARDS", cards(notebooks, folder.relative_to(source)))
    index = index.replace("CONTENTS", contents(folder.relative_to(source), pages, language))
    (source / "index.md").write_text(index, encoding="utf-8")
    api = (SETTINGS / in_language("api.md", language)).read_text(encoding="utf-8")
    api = with_links(api, Path("docs/site"), pages).replace("../../", "")
    (source / "api.md").write_text(api.replace("API\n", api_directives()), encoding="utf-8")


def in_language(page: str, language: str) -> str:
    """Return a page's name in a language, such as README.ko.md."""
    return page if language == "en" else page.replace(".md", f".{language}.md")


def contents(folder: Path, pages: list[str], language: str) -> str:
    """Return the two parts of the navigation."""
    walkthrough, reference, leader, names = LANGUAGES[language]
    about, glossary, for_leaders = (page.removesuffix(".md") for page in pages)
    return "\n".join(
        [
            *("```{toctree}", f":caption: {walkthrough}", ":hidden:", ":glob:"),
            *(f"{folder.as_posix()}/*", "```", ""),
            *("```{toctree}", f":caption: {reference}", ":hidden:", glossary),
            *(f"{leader} <{for_leaders}>", f"{names} <api>", f"README <{about}>", "```", ""),
        ]
    )


def without_badges(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take the badges out of the header (the site has launch buttons), and hide the install."""
    first = notebook.cells[0]
    first.source = re.sub(r"(?m)^\[!\[.*badge.*\n", "", first.source)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            if '"google.colab" in sys.modules' in cell.source:
                cell.metadata["tags"] = [*cell.metadata.get("tags", ()), "remove-cell"]
            break
    return notebook


def with_links(text: str, folder: Path, pages: list[str]) -> str:
    """Let links to files that are not part of the site lead to the repository on the web."""

    def link(match: re.Match[str]) -> str:
        target = Path(os.path.normpath(folder / match[1])).as_posix()
        part = target in pages or target.endswith((".ipynb", ".webp", ".jpg", ".png"))
        return match[0] if part else f"]({REPOSITORY}{target})"

    return re.sub(r"\]\((?!https?:|#)([^)#\s]+)\)", link, text)


def cards(notebooks: list[Path], folder: Path) -> str:
    """Return the front page's cards: each notebook's picture, title and question."""
    parts = []
    for notebook in notebooks:
        header = nbformat.read(notebook, as_version=4).cells[0].source
        title = f"{notebook.stem[:2]} {header.splitlines()[0].lstrip('# ')}"
        question = re.search(r"\*\*[^*]+:\*\* (.*\?)", header)
        page, picture = (folder / notebook.name).as_posix(), f"docs/notebook_{title[:2]}.webp"
        image = f"[![]({picture})]({page})\n" if (ROOT / picture).exists() else ""
        text = f"{image}\n**[{title}]({page})**\n\n{question[1] if question else ''}"
        parts.append(f"```{{container}} piece\n{text}\n```")
    return "````{container} cards\n" + "\n".join(parts) + "\n````"


def api_directives() -> str:
    """Return Sphinx's directives for every public name, in the order of the data flow."""
    lines = ["```{eval-rst}", ".. currentmodule:: nst_helpers", ""]
    for name in nst.__all__:
        thing = getattr(nst, name)
        if isinstance(thing, type):
            lines += [f".. autoclass:: {name}", "   :members:", ""]
        else:
            kind = "autofunction" if callable(thing) else "autodata"
            lines += [f".. {kind}:: {name}", ""]
    return "\n".join([*lines, "```", ""])


def build(output: Path, executed: Iterable[Path] = ()) -> int:
    """Build the site into a folder, and return Sphinx's exit code.

    It has the notebooks as they are stored, and for English those that were executed anew.
    """
    for language in LANGUAGES:
        paths = {path.name: path for path in stored(language)}
        if language == "en":
            paths |= {path.name: path for path in executed}
        folder = output / ("" if language == "en" else language)
        if code := build_in(language, [paths[name] for name in sorted(paths)], folder):
            return code
    return 0


def stored(language: str = "en") -> list[Path]:
    """Return the notebooks of a language, in order."""
    return sorted((ROOT / "notebooks" / ("" if language == "en" else language)).glob("*.ipynb"))


def build_in(language: str, notebooks: list[Path], output: Path) -> int:
    """Build the site in one language."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        source.mkdir()
        lay_out(notebooks, source, language)
        command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q"]
        command += ["-c", SETTINGS, "-d", Path(folder) / "doctrees", source, output]
        environment = {**os.environ, "NST_SITE_LANGUAGE": language}
        return subprocess.run(command, env=environment, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("output/site"))
    output = parser.parse_args().output
    if code := build(output):
        return code
    print(f"the site: {os.path.relpath(output / 'index.html')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
