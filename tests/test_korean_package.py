"""What the package says in Korean: explorer, hints, lines of notebooks; settings stay English."""

import ast
import contextlib
import inspect
import re
from string import Formatter

import pytest
import torch
from test_exercises import MISTAKES, SOLUTIONS

import nst_helpers as nst
from helpers import wait_for
from nst_helpers import language
from nst_helpers.explorer.pictures import Pictures
from nst_helpers.explorer.widgets import SafeHTML, parts_of
from nst_helpers.lesson import clinic, control_exercises, exercises
from scripts import korean
from scripts.browser import FLAGS, VOILA, find_chromium, serve

HANGUL = re.compile(r"[\uac00-\ud7a3]")
# Names, numbers and signs, which are the same in any language.
SAME = re.compile(r"(relu\d_\d|1e-\d|x|\u200b|)")
PATIENCE = 30  # seconds, on a busy machine
PAGE_PATIENCE = 90_000  # milliseconds


@pytest.fixture
def in_korean(monkeypatch):
    monkeypatch.setenv("NST_LANG", "ko")


def fields(text):
    return [(name, spec, conversion) for _, name, spec, conversion in Formatter().parse(text)]


def words(widget):
    """What people read of a widget, without its values."""
    texts = [getattr(widget, name, "") or "" for name in ("description", "tooltip", "placeholder")]
    texts += getattr(widget, "tooltips", ())
    return [text for text in texts if isinstance(text, str)]


def test_each_translation_formats_what_the_english_formats_and_in_its_order():
    for message in korean.catalogue("nst_helpers"):
        if message.id:
            english, translated = (
                [field for field in fields(text) if field[0] is not None]
                for text in (message.id, message.string)
            )
            assert translated == english


# --- the explorer --------------------------------------------------------------------------------


def test_every_word_on_the_explorer_is_korean(in_korean, explore):
    explorer = explore(served=False)
    parts = parts_of(explorer.view)
    assert len(parts) > 50
    for text in [text for widget in parts for text in words(widget)]:
        assert HANGUL.search(text) or SAME.fullmatch(text), text
    shown = explorer.controls.canvas
    assert "스텝 <b>0</b>" in shown.status.value
    assert ">콘텐츠 손실<" in shown.plot.value
    assert "스타일 층" in "".join(w.value for w in parts if isinstance(w, SafeHTML))
    assert "nst-ko" in explorer.view._dom_classes
    for name in ("start", "colors"):
        assert all(HANGUL.search(label) for label, _ in explorer.controls.fields[name].options)


def test_settings_are_english_whatever_the_language(explore, monkeypatch):
    english = explore()
    monkeypatch.setenv("NST_LANG", "ko")
    translated = explore()
    assert translated.settings == english.settings
    assert not HANGUL.search(str(translated.settings))
    for name, field in english.controls.fields.items():
        options = [getattr(e.controls.fields[name], "options", ()) for e in (english, translated)]
        values = [[o[-1] if isinstance(o, tuple) else o for o in each] for each in options]
        assert values[0] == values[1], field.description


@pytest.mark.parametrize(("first", "then"), [("ko", "en"), ("en", "ko")])
def test_a_saved_picture_is_taken_back_in_the_other_language(explore, monkeypatch, first, then):
    monkeypatch.setenv("NST_LANG", first)
    explorer = explore(steps=2)
    explorer.settings = {"second_style": "wave", "colors": "keep", "start": "content", "alpha": 0}
    explorer.start()
    assert explorer.join(PATIENCE)
    path = explorer.save_png()
    monkeypatch.setenv("NST_LANG", then)
    other = explore()
    other.settings = nst.load_settings(path)
    assert other.settings == explorer.settings


def test_language_of_an_explorer_is_the_one_in_force_when_it_is_made(explore, monkeypatch):
    monkeypatch.setenv("NST_LANG", "en")
    first = explore()
    nst.set_language("ko")
    second = explore()
    starts = [e.controls.canvas.buttons["Start"].description for e in (first, second)]
    assert starts == ["Start", "시작"]


def test_messages_pause_and_kept_pictures_are_korean(in_korean, explore):
    explorer = explore()
    canvas = explorer.controls.canvas
    canvas.buttons["Save film"].click()
    assert "아직 영상이 없습니다" in canvas.message.value
    canvas.buttons["Start"].click()
    wait_for(lambda: explorer.recording.steps_done > 2)
    canvas.buttons["Pause"].click()
    wait_for(lambda: "일시정지됨" in canvas.status.value)
    assert canvas.buttons["Pause"].description == "계속"
    canvas.buttons["Keep"].click()
    (kept,) = explorer.controls.strip.kept
    assert kept.buttons[0].description == "돌아가기"
    explorer.controls.fields["seed"].value = 3
    assert "초기화를 누르면" in canvas.message.value


def test_what_is_wrong_with_an_upload_is_said_in_korean(in_korean):
    with pytest.raises(ValueError, match=r"big\.png: 9\.0 MB입니다"):
        Pictures().add_upload("big.png", bytes(9 * 2**20))


# --- hints, and lines that notebooks print -------------------------------------------------------


@pytest.mark.parametrize("name", SOLUTIONS)
def test_a_solution_is_right_in_korean(in_korean, name):
    line = getattr(exercises, f"check_{name}")(SOLUTIONS[name])
    assert line.startswith("맞았습니다: ")


@pytest.mark.parametrize(("name", "function", "hint"), MISTAKES)
def test_every_mistake_has_its_hint_in_korean(monkeypatch, name, function, hint):
    check = getattr(exercises, f"check_{name}")
    english = check(function)
    assert english.startswith("Not ")
    assert re.search(hint, english)
    monkeypatch.setenv("NST_LANG", "ko")
    line = check(function)
    assert line.startswith(("아직 아닙니다: ", "아직 풀지 않았습니다: "))
    assert "\n" not in line
    if "raises" not in english:  # the error itself is Python's
        assert line.endswith((".", "?")), line


@pytest.mark.parametrize("module", [exercises, control_exercises])
def test_hints_of_one_exercise_differ_in_korean_as_they_do_in_english(module):
    catalogue = korean.catalogue("nst_helpers")
    for function in ast.parse(inspect.getsource(module)).body:
        calls = [n for n in ast.walk(function) if isinstance(n, ast.Call)]
        hints = [ast.literal_eval(n.args[0]) for n in calls if getattr(n.func, "id", "") == "N_"]
        assert len({catalogue.get(hint).string for hint in hints}) == len(hints)


def test_the_clinic_answers_in_korean_and_takes_the_causes_by_their_names(in_korean):
    lines = clinic.check_diagnosis(clinic.ANSWERS).splitlines()
    assert len(lines) == len(clinic.ANSWERS) + 1
    assert all(re.match(r"[A-F]: 맞았습니다: ", line) for line in lines[:-1])
    assert lines[-1] == "맞은 개수: 6 / 6"
    wrong = clinic.check_diagnosis(dict.fromkeys(clinic.ANSWERS, "batch mixed"))
    assert wrong.count("그것이 원인이었다면") == 5


def test_the_line_of_the_network_is_korean_and_the_explorer_leaves_it_out(in_korean, capsys):
    nst.load_network()
    line = capsys.readouterr().out
    assert line.startswith("신경망: ")
    assert "load_network(" in line
    explorer = nst.StyleTransferExplorer(size=32)
    with contextlib.closing(explorer):
        assert not explorer.controls.canvas.message.value
        labels = dict(explorer.controls.fields["network"].options)
        assert labels["내장 신경망"] == "bundled"


@pytest.mark.parametrize("threads", [1, 8])
def test_the_device_is_described_in_korean(in_korean, monkeypatch, threads):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert nst.describe_device("cpu").startswith(f"CPU (스레드 {threads}개, ")


# --- in a browser --------------------------------------------------------------------------------

TOO_LONG = """() => [...document.querySelectorAll('.nst-explorer :is(button, label)')]
    .filter(e => e.offsetParent && e.scrollWidth > e.clientWidth + 1).map(e => e.textContent)"""
OUTSIDE = """() => [...document.querySelectorAll('.nst-explorer button')]
    .map(e => e.getBoundingClientRect())
    .filter(b => b.right > 1280 || b.bottom > 800).length"""
STYLE = "s => getComputedStyle(document.querySelector('.nst-canvas button'))[s]"


def test_korean_labels_fit_their_buttons_and_their_window(tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if find_chromium() is None:
        pytest.skip("there is no Chromium on this machine")
    environment = {"NST_LANG": "ko", "NST_BUDGET": "quick"}  # as in: NST_LANG=ko make app
    with serve(VOILA, tmp_path, environment) as address, playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(address)
        page.wait_for_selector(".nst-explorer.nst-ko", timeout=PAGE_PATIENCE)
        page.locator("button.nst-fold").click()
        page.locator("button", has_text="시작").first.wait_for()
        assert page.evaluate(TOO_LONG) == []
        assert page.evaluate(OUTSIDE) == 0
        assert page.evaluate(STYLE, "wordBreak") == "keep-all"
        assert "Noto Sans KR" in page.evaluate(STYLE, "fontFamily")
        browser.close()


def test_english_is_untouched(explore):
    assert language.current_language() == "en"
    assert not any(HANGUL.search(t) for w in parts_of(explore().view) for t in words(w))
