"""What holds for every notebook, read as a file; nbval tests that they run."""

import ast
import importlib.util
import inspect
import itertools
import os
import re
import statistics
from pathlib import Path

import nbformat
import pytest

import nst_helpers as nst
from nst_helpers.lesson import control_exercises, exercises

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PICTURES = {"image/jpeg", "image/png", "image/webp", "image/gif"}
# Folders of somebody's machine, in text or code.
LOCAL_PATH = re.compile(
    r"/(home|Users|root|tmp|work|mnt|var)/|[A-Z]:\\\\|site-packages|ipykernel_\d"
)


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


@pytest.fixture
def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture
def prose(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "markdown"]


def has_picture(cell):
    outputs = cell.get("outputs", ())
    return any(PICTURES & set(output.get("data", {})) for output in outputs)


def test_there_are_notebooks_in_the_order_of_the_lecture():
    assert [path.stem[:2] for path in NOTEBOOKS] == ["00", "01", "02", "03", "04", "05", "06"]


def test_stored_outputs_come_from_one_run_from_the_top(code_cells):
    assert [c.execution_count for c in code_cells] == list(range(1, len(code_cells) + 1))


def test_no_errors_or_warnings_are_stored(code_cells):
    for cell in code_cells:
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text
            assert "Warning" not in output.get("text", "")


def test_no_path_of_a_machine_is_stored(notebook):
    for cell in notebook.cells:
        texts = [cell.source]
        for output in cell.get("outputs", ()):
            texts += [output.get("text", ""), output.get("data", {}).get("text/plain", "")]
            texts.append(output.get("data", {}).get("text/html", ""))
        for text in texts:
            assert not LOCAL_PATH.search(re.sub(r"https?://\S+", "", "".join(text))), text[:300]


def test_metadata_say_nothing_of_a_machine(notebook):
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags", "mystnb"}, cell.metadata


def test_one_of_the_first_three_code_cells_shows_a_picture(code_cells):
    assert any(has_picture(cell) for cell in code_cells[:3])


def test_code_cells_are_short(code_cells):
    lengths = [len(cell.source.splitlines()) for cell in code_cells]
    assert max(lengths) <= 25
    assert statistics.median(lengths) <= 6


def test_prose_cells_are_short_and_one_comes_first(notebook, prose):
    assert notebook.cells[0].cell_type == "markdown"
    for cell in prose:
        words = re.sub(r"\]\([^)]*\)|^\|.*$", "", cell.source, flags=re.MULTILINE).split()
        assert len(words) <= 120, cell.source[:60]


def test_the_header_has_question_goal_needs_time_paper_and_badges(prose):
    first = prose[0].source
    for part in ("**The question:**", "Afterwards", "eed", "aper"):
        assert part in first, part
    assert re.search(r"minute|second", first)
    assert "colab.research.google.com" in first
    assert "mybinder.org" in first


def test_the_first_code_cell_installs_only_on_colab(code_cells):
    source = code_cells[0].source
    assert 'if "google.colab" in sys.modules:' in source
    assert "pip" in source


def test_badges_and_install_name_the_same_repository(notebook):
    text = "\n".join(cell.source for cell in notebook.cells[:4])
    repositories = re.findall(
        r"(?:research\.google\.com/github/|mybinder\.org/v2/gh/|git\+https://github\.com/)"
        r"([\w.-]+/[\w-]+)",
        text,
    )
    assert len(repositories) >= 3
    assert set(repositories) == {"nst-helpers/nst-helpers"}


def test_it_asks_for_predictions(prose):
    assert sum("Before you run" in cell.source for cell in prose) >= 2


def test_every_picture_is_followed_by_a_sentence(notebook):
    # A cell that only prints a number or draws once more may come between.
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and has_picture(cell):
            after = [c for c in notebook.cells[i + 1 : i + 3] if c.cell_type == "markdown"]
            assert after, cell.source[:80]
            assert re.search(r"\w+[.:!?*)]", after[0].source), cell.source[:80]


def test_pictures_in_the_prose_have_alt_text(prose):
    for cell in prose:
        assert not re.search(r"!\[\s*\]\(", cell.source)


def test_it_ends_with_three_things_learnt_and_two_to_try(prose):
    last = "\n\n".join(cell.source for cell in prose[-2:])
    assert re.search(r"## Three things learnt\n\n1\. .+\n2\. .+\n3\. .+", last)
    assert len(re.findall(r"^- ", last.split("## Two things to try")[1], re.MULTILINE)) == 2


def test_each_notebook_links_to_the_next():
    for this, following in itertools.pairwise(NOTEBOOKS):
        last = nbformat.read(this, as_version=4).cells[-1].source
        assert f"]({following.name})" in last, this.stem


def test_linked_files_exist(prose):
    for cell in prose:
        for link in re.findall(r"\]\(([^)#\s]+)", cell.source):
            if not link.startswith("http"):
                assert (ROOT / "notebooks" / link).exists(), link
            elif "/nst-helpers/" in link:
                file = re.search(r"(?:blob/main|lab/tree)/(notebooks/\S+?\.ipynb)", link)
                assert file is None or (ROOT / file[1]).exists(), link


def test_every_name_of_the_package_exists(notebook):
    modules = {"nst": nst, "exercises": exercises, "control_exercises": control_exercises}
    names = rf"\b({'|'.join(modules)})\.([A-Za-z_]\w*)"
    for cell in notebook.cells:
        for module, name in re.findall(names, cell.source):
            assert hasattr(modules[module], name), f"{module}.{name}"


def test_every_option_given_to_the_package_exists(code_cells):
    for cell in code_cells:
        for call in ast.walk(ast.parse(cell.source)):
            if isinstance(call, ast.Call) and ast.unparse(call.func).startswith("nst."):
                function = getattr(nst, ast.unparse(call.func)[4:], None)
                parameters = inspect.signature(function).parameters if function else {}
                open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
                for keyword in call.keywords:
                    assert open_ended or keyword.arg in (None, *parameters), ast.unparse(call)


def test_an_exercise_has_a_stub_and_a_check_that_does_not_stop_the_run(code_cells):
    stubs = [cell for cell in code_cells if "raise NotImplementedError" in cell.source]
    assert 1 <= len(stubs) <= 2
    for cell in stubs:
        assert "exercises.check_" in cell.source
        printed = "".join(output.get("text", "") for output in cell.outputs)
        assert printed.startswith("Not tried yet: write ")


def test_what_is_written_by_hand_is_asserted_equal_to_the_package(code_cells):
    assert any(re.search(r"\bassert_close\(", cell.source) for cell in code_cells)


def test_no_function_is_defined_in_two_notebooks():
    notebooks = {}
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            for name in re.findall(r"^def (\w+)", cell.source, re.MULTILINE):
                notebooks.setdefault(name, set()).add(path.stem)
    assert {name: stems for name, stems in notebooks.items() if len(stems) > 1} == {}


def test_one_of_the_first_three_code_cells_sets_the_budget(code_cells):
    assert any("nst.budget(" in cell.source for cell in code_cells[:3])


def test_tests_run_at_the_quick_budget():
    assert os.environ["NST_BUDGET"] in ("quick", "full")
    assert 'setdefault("NST_BUDGET", "quick")' in (ROOT / "conftest.py").read_text()


def test_no_magics_shell_commands_or_star_imports(code_cells):
    for cell in code_cells:
        for line in cell.source.splitlines():
            assert not line.lstrip().startswith(("%", "!")), line
            assert "import *" not in line


def test_the_kernel_is_python3(notebook):
    assert notebook.metadata.kernelspec.name == "python3"


def test_files_are_small_each_and_together():
    sizes = [path.stat().st_size for path in NOTEBOOKS]
    assert max(sizes) < 1_500_000
    assert sum(sizes) < 9_000_000


def test_stored_outputs_are_compared_with_tolerance_for_floats_only():
    spec = importlib.util.spec_from_file_location("root_conftest", ROOT / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    stored = module.Close("loss 0.12345 of n=3")
    assert stored == module.Close("loss 0.12346 of n=3")
    for other in ("loss 0.12545 of n=3", "loss 0.12345 of n=4", "gain 0.12345 of n=3", "loss 0.12"):
        assert stored != module.Close(other)


def test_outputs_that_no_budget_changes_are_compared():
    # nbval runs a cell with this tag and compares what it prints with what is stored.
    tagged = [
        cell
        for path in NOTEBOOKS
        for cell in nbformat.read(path, as_version=4).cells
        if "nbval-check-output" in cell.metadata.get("tags", ())
    ]
    assert len(tagged) >= 3
