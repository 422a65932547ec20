"""What every notebook must keep to; that they run is tested by nbval."""

import statistics
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


@pytest.fixture
def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_stored_outputs_come_from_one_run_from_the_top(code_cells):
    assert [c.execution_count for c in code_cells] == list(range(1, len(code_cells) + 1))


def test_no_errors_or_warnings_are_stored(code_cells):
    for cell in code_cells:
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text


def test_a_picture_comes_within_three_code_cells(code_cells):
    kinds = {kind for c in code_cells[:3] for o in c.outputs for kind in o.get("data", {})}
    assert "image/jpeg" in kinds


def test_cells_are_short(code_cells):
    lengths = [len(cell.source.splitlines()) for cell in code_cells]
    assert max(lengths) <= 25
    assert statistics.median(lengths) <= 6


def test_prose_is_short_and_comes_first(notebook):
    assert notebook.cells[0].cell_type == "markdown"
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            assert len(cell.source.split()) <= 100, cell.source[:60]


def test_no_magics_installs_or_star_imports(code_cells):
    for cell in code_cells:
        for line in cell.source.splitlines():
            assert not line.lstrip().startswith(("%", "!")), line
            assert "import *" not in line


def test_kernel_is_the_ordinary_one(notebook):
    assert notebook.metadata.kernelspec.name == "python3"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_file_is_small(path):
    assert path.stat().st_size < 1_000_000
