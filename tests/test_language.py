"""Which language people read, and what happens without a translation."""

import gettext

import pytest

import nst_helpers as nst
from nst_helpers import language


@pytest.fixture(autouse=True)
def no_wish(monkeypatch):
    for variable in ("NST_LANG", "LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.setenv(variable, "")


def test_english_is_the_source():
    assert language.current_language() == "en"
    assert language._("style") == "style"
    assert language._("") == ""  # not the header of the catalogue


@pytest.mark.parametrize("value", ["ko", "ko_KR.UTF-8", "ko-KR", "KO"])
def test_nst_lang_chooses(monkeypatch, value):
    monkeypatch.setenv("NST_LANG", value)
    assert language.current_language() == "ko"


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("LANG", "ko_KR.UTF-8", "ko"),
        ("LC_ALL", "ko_KR", "ko"),
        ("LANGUAGE", "ko:en", "ko"),
        ("LANG", "fr_FR.UTF-8", "en"),
        ("LANG", "C.UTF-8", "en"),
    ],
)
def test_else_the_system_s_language_counts(monkeypatch, capsys, variable, value, expected):
    monkeypatch.setenv(variable, value)
    assert language.current_language() == expected
    assert not capsys.readouterr().err


def test_the_wish_goes_before_the_system(monkeypatch):
    monkeypatch.setenv("LANG", "ko_KR.UTF-8")
    monkeypatch.setenv("NST_LANG", "en")
    assert language.current_language() == "en"


def test_an_unknown_wish_is_english_with_one_line(monkeypatch, capsys):
    monkeypatch.setenv("NST_LANG", "xx")
    language._known.cache_clear()
    assert [language._("style") for _ in range(3)] == ["style"] * 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "NST_LANG=xx" in line
    assert "ko" in line


def test_set_language_acts_at_once_and_refuses_what_there_is_not():
    nst.set_language("ko")
    assert language.current_language() == "ko"
    nst.set_language("en")
    assert language.current_language() == "en"
    with pytest.raises(ValueError, match=r"en, ko|'en', 'ko'|\"en\", \"ko\""):
        nst.set_language("xx")


def test_translations_are_those_that_the_standard_library_finds(monkeypatch):
    monkeypatch.setenv("NST_LANG", "ko")
    catalogue = gettext.translation("nst_helpers", language.LOCALE, ["ko"])
    for text, korean in catalogue._catalog.items():
        if text:
            assert language._(text) == korean
