"""README's commands and code must do what they say."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
LINES = [line.split("#")[0].strip() for _, text in BLOCKS for line in text.splitlines()]
COMMANDS = [line for line in LINES if line.startswith("python -m nst_helpers")]


def test_there_is_something_to_test():
    assert len(COMMANDS) >= 4
    assert any(language == "python" for language, _ in BLOCKS)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_writes_its_output(command, tmp_path):
    words = [sys.executable, *shlex.split(command)[1:]]
    words += ["--size", "48", "--steps", "2", "--network", "bundled", "--quiet"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / words[words.index("-o") + 1]).stat().st_size > 1000


def test_python_example_runs(tmp_path, monkeypatch):
    (code,) = [text for language, text in BLOCKS if language == "python"]
    for slow, quick in (("size=256", "size=48"), ("steps=300", "steps=2")):
        assert slow in code
        code = code.replace(slow, quick)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "out.png").is_file()


def test_make_has_the_targets_that_readme_names():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake (run|test|lab|lint|\w+)`", README)) | {"run", "test"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_links_to_files_lead_somewhere():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        if not link.startswith("http"):
            assert (ROOT / link).exists(), link


def test_ci_runs_what_readme_says():
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == "make test"
