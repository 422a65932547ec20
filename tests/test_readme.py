"""README's commands and code do what they say; so do the papers beside it."""

import ast
import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import nst_helpers as nst

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
LINES = [line.split("#")[0].strip() for _, text in BLOCKS for line in text.splitlines()]
COMMANDS = [line for line in LINES if line.startswith("python -m nst_helpers")]


def test_readme_has_commands_and_python():
    assert len(COMMANDS) >= 4
    assert any(language == "python" for language, _ in BLOCKS)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_writes_its_output(command, tmp_path):
    words = [sys.executable, *shlex.split(command)[1:]]
    words += ["--size", "48", "--steps", "2", "--network", "bundled", "--quiet"]
    process = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert (tmp_path / words[words.index("-o") + 1]).stat().st_size > 1000


def test_python_examples_run_one_after_the_other(tmp_path, monkeypatch):
    codes = [text for language, text in BLOCKS if language == "python"]
    assert len(codes) == 5
    (tmp_path / "images").symlink_to(ROOT / "images")
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in codes:
        code = re.sub(r"size=\d+|, 256\)", lambda m: ", 48)" if "," in m[0] else "size=48", code)
        code = re.sub(r"steps=(\d+|\[.*?\])", "steps=2", code).replace("(128,)", "(24,)")
        exec(compile(code, "README.md", "exec"), names)
    assert (tmp_path / "out.png").is_file()
    assert names["image"].shape == names["content"].shape


def test_make_has_the_targets_that_readme_names():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake (run|test|lab|lint|\w+)`", README)) | {"run", "test"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("paper", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_to_files_lead_somewhere(paper):
    for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / paper).read_text(encoding="utf-8")):
        if not link.startswith("http"):
            assert (ROOT / link).exists(), link


def test_ci_runs_what_readme_says():
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-2:] == ["make lint", "make test"]


def test_what_is_where_names_the_whole_package():
    rows = table("What is where")
    assert len(rows) <= 12
    core = ["images.py", "network/features.py", "layer_losses.py", "losses.py"]
    assert [row[0].strip("`") for row in rows[:5]] == [*core, "optimization.py"]
    named = {name.split("/")[0] for row in rows for name in re.findall(r"`([^`]+)`", row[0])}
    package = [p.name for p in (ROOT / "nst_helpers").iterdir() if p.suffix == ".py" or p.is_dir()]
    public = {name for name in package if not name.startswith("_")} | {"__main__.py"}
    assert named == public - {"download.py"}


def test_changelog_and_citation_are_of_this_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)$", changelog, re.MULTILINE)[1] == nst.__version__
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (\S+)$", citation, re.MULTILINE)[1] == nst.__version__


def table(heading):
    """The rows of a section's table, as lists of cells, without its head."""
    section = README.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows[1:]]


def test_the_fidelity_table_is_true_of_the_defaults():
    cells = [here for _, _, here, _ in table("Faithful to the paper?")]
    places = (nst.load_network, nst.StyleTransferLoss, nst.optimize, nst.noise_like)
    defaults = {
        name: parameter.default
        for place in places
        for name, parameter in inspect.signature(place).parameters.items()
    }
    stated = {
        name: ast.literal_eval(value)
        for cell in cells
        for name, value in re.findall(r"`(\w+)=([^`]+)`", cell)
    }
    names = {"pooling", "convention", "optimizer", "precondition", "std", "range_weight"}
    assert stated == {name: defaults[name] for name in names}


def test_the_fidelity_table_names_the_layers():
    rows = {what: here for what, _, here, _ in table("Faithful to the paper?")}
    signature = inspect.signature(nst.StyleTransferLoss).parameters
    for row, argument in (("content layer", "content_layers"), ("style layers", "style_layers")):
        named = re.findall(r"`(relu\d_\d)`", rows[row])
        assert tuple(named) == tuple(signature[argument].default), row
    assert f"1/{len(nst.STYLE_LAYERS)} each" in rows["style layers"]


def test_the_table_of_notebooks_has_every_notebook():
    links = [re.search(r"\((notebooks/[^)]+)\)", row[0])[1] for row in table("The notebooks")]
    assert links == sorted(f"notebooks/{p.name}" for p in (ROOT / "notebooks").glob("*.ipynb"))
    for row in table("The notebooks"):
        quick, full = (float(number) for number in row[3].split(","))
        assert 0 < quick < 1
        assert quick <= full <= 4
        link = re.search(r"\((notebooks/[^)]+)\)", row[0])[1]
        header = nbformat.read(ROOT / link, as_version=4).cells[0].source
        number, unit = re.search(r"\*\*Time:\*\* about ([\d.]+) (second|minute)", header).groups()
        assert full == pytest.approx(float(number) / {"second": 60, "minute": 1}[unit], abs=0.05)


def test_the_leader_s_table_names_sections_that_there_are():
    lines = (ROOT / "docs" / "leader.md").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if line.startswith("|"))
    places = re.findall(r"\[(\d\d)\]\(\.\./(notebooks/\S+?)\) ([^;|]+?)\s*[;|]", text)
    assert len(places) > 20
    for number, path, heading in places:
        cells = nbformat.read(ROOT / path, as_version=4).cells
        headings = [line.lstrip("# ") for c in cells for line in re.findall(r"(?m)^#.*", c.source)]
        assert heading in headings, f"{number}: {heading}"
