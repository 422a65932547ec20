"""The Korean edition: nothing missing, nothing stale, nothing but the prose changed."""

import collections
import gettext
import io
import re

import nbformat
import pytest

from scripts import korean

NOTEBOOKS = [pytest.param(path, id=path.stem) for path in korean.NOTEBOOKS]
# What a translation must keep as it is: code, formulas, addresses of links, placeholders.
KEPT = [
    r"(?ms:^```.*?^```)",
    r"(?<!`)`[^`\n]+`(?!`)",
    r"\$\$[^$]+\$\$|\$[^$]+\$",
    r"\]\(([^)\s]+)\)",
    r"\{\w*\}",
    r"<[/\w][^>]*>",
]
HANGUL, LATIN = re.compile(r"[\uac00-\ud7a3]"), re.compile(r"[A-Za-z]{2,}")


@pytest.fixture(scope="module")
def edition():
    return korean.files()


@pytest.fixture(params=["notebooks", "pages", "nst_helpers"])
def entries(request):
    return korean.catalogue(request.param)


def test_everything_is_translated_from_the_english_as_it_is_now(edition):
    _, missing = edition
    assert not [str(message.id)[:80] for message in missing]


def test_the_files_are_what_make_korean_writes(edition):
    for path, contents in edition[0].items():
        if path.suffix == ".mo":  # its header names Babel's version
            compiled = [gettext.GNUTranslations(f) for f in (io.BytesIO(contents), path.open("rb"))]
            made, stored = ({k: v for k, v in c._catalog.items() if k} for c in compiled)
            assert made == stored
            continue
        data = contents if isinstance(contents, bytes) else contents.encode()
        assert path.read_bytes() == data, f"{path.name}: make korean"


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_code_and_outputs_are_the_english_ones(path):
    english = nbformat.read(path, as_version=4)
    translated = nbformat.read(path.parent / "ko" / path.name, as_version=4)
    assert [c.id for c in translated.cells] == [c.id for c in english.cells]
    assert [c for c in translated.cells if c.cell_type == "code"] == [
        c for c in english.cells if c.cell_type == "code"
    ]


@pytest.mark.parametrize("pattern", KEPT)
def test_code_formulas_links_and_placeholders_are_kept(entries, pattern):
    for message in entries:
        if message.id and message.string:
            parts = [
                collections.Counter(re.findall(pattern, str(t)))
                for t in (message.id, message.string)
            ]
            assert parts[0] == parts[1], str(message.id)[:80]


def test_prose_is_korean(entries):
    """Half of what is read is Hangul: names, code, formulas and references are not counted."""
    for message in entries:
        if not message.id:  # the catalogue's header
            continue
        text = re.sub("|".join(KEPT) + r"|https?://\S+|relu\d_\d", " ", str(message.string))
        english = [word for word in LATIN.findall(text) if word[0].islower()]
        if len(english) > 3:
            assert len(HANGUL.findall(text)) > 2 * len(english), text[:120]


def test_aphorisms_aside_the_register_is_formal():
    """Sentences of the notebooks end in 합니다체 or in -세요, hardly ever in plain style."""
    plain = polite = 0
    for message in korean.catalogue("notebooks"):
        polite += len(re.findall(r"(?:니다|세요|니까|시오)[.?!:]", str(message.string)))
        plain += len(re.findall(r"(?<![니])다\.", str(message.string)))
    assert polite > 300
    assert plain < 0.02 * polite


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_links_lead_to_files_of_the_korean_edition(path):
    folder = path.parent / "ko"
    for cell in nbformat.read(folder / path.name, as_version=4).cells:
        if cell.cell_type != "markdown":
            continue
        for link in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", cell.source):
            file = (folder / link).resolve()
            assert file.is_file(), link
            assert file.suffix != ".md" or file.stem.endswith(".ko"), link
            assert file.suffix != ".ipynb" or file.parent == folder.resolve(), link
        assert not re.search(r"/notebooks/\d\d_", cell.source)
