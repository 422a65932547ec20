"""The Korean edition, from the English one and its translations: ``make korean``.

English is the source. Its texts, the prose cells of the notebooks, the paragraphs of README and the
site's pages, and the package's own messages, are entries of nst_helpers/locale/ko/LC_MESSAGES/*.po.
This brings the entries up to date (a changed English text makes its translation fuzzy), lists what
is still to be translated, and writes notebooks/ko, README.ko.md and the site's Korean pages, with
the code and the stored outputs of the English notebooks.
"""

from __future__ import annotations

import copy
import io
import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import nbformat
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).parents[1]
LOCALE = ROOT / "nst_helpers" / "locale" / "ko" / "LC_MESSAGES"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = [
    "README.md",
    "docs/glossary.md",
    "docs/leader.md",
    "docs/site/index.md",
    "docs/site/api.md",
]
FENCE = re.compile(r"(?ms)^```.*?^```[^\n]*$")


# --- the English texts ---------------------------------------------------------------------------


def notebook_texts() -> Iterator[tuple[str, str]]:
    """Yield where each prose cell is, and its text."""
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                yield f"{path.stem}/{cell.id}", cell.source


def paragraphs(text: str) -> list[str]:
    """Split a page at its blank lines; a block of code stays whole."""
    blocks: list[str] = []
    last = 0
    for fence in FENCE.finditer(text):
        blocks += re.split(r"\n\n+", text[last : fence.start()].strip("\n")) + [fence[0]]
        last = fence.end()
    return [block for block in blocks + re.split(r"\n\n+", text[last:].strip("\n")) if block]


def page_texts() -> Iterator[tuple[str, str]]:
    """Yield each page's name and the paragraphs in which there is something to translate."""
    for page in PAGES:
        for paragraph in paragraphs((ROOT / page).read_text(encoding="utf-8")):
            is_place = paragraph.isupper() and paragraph.isalpha()  # of what the site puts in
            if re.search(r"[A-Za-z]{2}", paragraph) and not FENCE.match(paragraph) and not is_place:
                yield page, paragraph


def message_texts() -> Iterator[tuple[str, str]]:
    """Yield the texts that the package marks with _() and N_()."""
    found = extract_from_dir(ROOT / "nst_helpers", keywords={"_": None, "N_": None})
    for file, _line, text, _comments, _context in sorted(found, key=lambda entry: entry[:2]):
        yield file, str(text)


# --- catalogues ----------------------------------------------------------------------------------


def catalogue(name: str) -> Catalog:
    """Return a catalogue brought up to date with the English texts."""
    texts = {"notebooks": notebook_texts, "pages": page_texts, "nst_helpers": message_texts}[name]
    template = Catalog(domain=name)
    for place, text in texts():
        template.add(
            text, locations=[(place, 0)] if name == "nst_helpers" else (), auto_comments=()
        )
    path = LOCALE / f"{name}.po"
    old = (
        read_po(path.open("rb"), locale="ko", domain=name) if path.exists() else Catalog("ko", name)
    )
    old.update(template, update_creation_date=False)
    old.obsolete.clear()
    old.fuzzy, old.project, old.version = False, "nst_helpers", "1"
    old.creation_date = old.revision_date = datetime(2026, 1, 1, tzinfo=UTC)  # the same bytes again
    old.msgid_bugs_address = old.last_translator = old.language_team = ""
    old.header_comment = "# The Korean edition of nst_helpers, under its licence."
    return old


def unfinished(entries: Catalog) -> list[Message]:
    """Return the messages without a translation, or whose English has changed since."""
    return [each for each in entries if each.id and (not each.string or each.fuzzy)]


def po_file(entries: Catalog) -> bytes:
    """Return a catalogue as the bytes of a .po file that says nothing of when and where."""
    file = io.BytesIO()
    write_po(file, entries, width=100, omit_header=False, include_previous=True, no_location=True)
    return re.sub(
        rb'(?m)^"(POT-Creation-Date|PO-Revision-Date|Generated-By): .*\n', b"", file.getvalue()
    )


def mo_file(entries: Catalog) -> bytes:
    """Return a catalogue compiled for the standard library's gettext."""
    file = io.BytesIO()
    write_mo(file, entries)
    return file.getvalue()


# --- the Korean edition --------------------------------------------------------------------------


def translation(entries: Catalog, text: str) -> str:
    """Return a text's translation; the text itself where there is none yet."""
    message = entries.get(text)
    return str(message.string) if message and message.string and not message.fuzzy else text


def with_links(text: str, folder: Path, target: Path) -> str:
    """Return a text of a file in ``folder`` with links as they must be for one in ``target``."""

    def link(match: re.Match[str]) -> str:
        path, anchor = match[1], match[2] or ""
        if path == "README.ko.md":  # each edition's page leads to the other
            return "](README.md)"
        if folder == (folder / path).parent == ROOT / "notebooks":
            return match[0]  # notebooks lie beside each other in both editions
        file = (folder / path).resolve()
        korean = file.with_name(f"{file.stem}.ko{file.suffix}")
        if file.parent == ROOT / "notebooks":
            korean = file.parent / "ko" / file.name
        is_page = file.is_relative_to(ROOT) and file.relative_to(ROOT).as_posix() in PAGES
        chosen = korean if is_page or file in NOTEBOOKS else file
        return f"]({Path(os.path.relpath(chosen, target)).as_posix()}{anchor})"

    text = re.sub(r"\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)", link, text)
    # Colab, Binder: the Korean notebook.
    return re.sub(r"(https://[^)\s]*/notebooks/)(\d\d_)", r"\1ko/\2", text)


def korean_notebook(path: Path, entries: Catalog) -> nbformat.NotebookNode:
    """Return a notebook whose prose is Korean; code and outputs are the English one's."""
    notebook = copy.deepcopy(nbformat.read(path, as_version=4))
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = translation(entries, cell.source)
            cell.source = with_links(text, path.parent, path.parent / "ko")
    return notebook


def korean_page(page: str, entries: Catalog) -> str:
    """Return a page in Korean."""
    path = ROOT / page
    texts = paragraphs(path.read_text(encoding="utf-8"))
    korean = [each if FENCE.match(each) else translation(entries, each) for each in texts]
    return "\n\n".join(with_links(each, path.parent, path.parent) for each in korean) + "\n"


def files() -> tuple[dict[Path, str | bytes], list[Message]]:
    """Return all that is made, file to contents, and what is still to be translated."""
    entries = {name: catalogue(name) for name in ("notebooks", "pages", "nst_helpers")}
    made: dict[Path, str | bytes] = {}
    for name, each in entries.items():
        made[LOCALE / f"{name}.po"] = po_file(each)
    made[LOCALE / "nst_helpers.mo"] = mo_file(entries["nst_helpers"])
    for path in NOTEBOOKS:
        notebook = korean_notebook(path, entries["notebooks"])
        made[path.parent / "ko" / path.name] = nbformat.writes(notebook) + "\n"
    for page in PAGES:
        path = ROOT / page
        made[path.with_name(f"{path.stem}.ko.md")] = korean_page(page, entries["pages"])
    return made, [message for each in entries.values() for message in unfinished(each)]


def main() -> int:
    made, missing = files()
    for path, contents in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        data = contents if isinstance(contents, bytes) else contents.encode()
        if not path.exists() or path.read_bytes() != data:
            path.write_bytes(data)
            print("wrote", path.relative_to(ROOT))
    for message in missing:
        print("to translate:", " ".join(str(message.id).split())[:100], file=sys.stderr)
    return bool(missing)


if __name__ == "__main__":
    sys.exit(main())
