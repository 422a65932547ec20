"""The package as pip installs it: its dependencies, its wheel, and a picture made from that."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

import nst_helpers as nst

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DEPENDENCIES = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = {
    name: [Requirement(line) for line in lines]
    for name, lines in PROJECT["optional-dependencies"].items()
}
OURS = {"conftest", "nst_helpers", "scripts", *(p.stem for p in (ROOT / "tests").glob("*.py"))}


def names(requirements):
    return {canonicalize_name(requirement.name) for requirement in requirements}


def third_party(sources):
    """Distributions that Python source texts import, wherever in the text."""
    modules = set()
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules.add(node.module.split(".")[0])
    owners = importlib.metadata.packages_distributions()
    return {
        canonicalize_name(owners.get(module, [module])[0])
        for module in modules - OURS - set(sys.stdlib_module_names)
    }


def python_files(*patterns):
    return [p.read_text(encoding="utf-8") for pattern in patterns for p in ROOT.glob(pattern)]


def walkthrough():
    """What the notebooks' cells, and the scripts that run them, say."""
    paths = [*(ROOT / "notebooks").glob("*.ipynb"), ROOT / "scripts" / "app.ipynb"]
    cells = [cell for path in paths for cell in nbformat.read(path, as_version=4).cells]
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    return sources + python_files("scripts/run_notebooks.py", "scripts/pictures/notebooks.py")


def test_dependencies_are_what_the_package_imports():
    # Dask is imported where a cluster's client is at hand, pillow-heif for a HEIC: extras.
    package = third_party(python_files("nst_helpers/**/*.py"))
    assert package == names(DEPENDENCIES + EXTRAS["cluster"] + EXTRAS["heif"])


def test_the_walkthrough_imports_the_package_and_the_extra_for_notebooks():
    assert third_party(walkthrough()) <= names(DEPENDENCIES + EXTRAS["notebooks"])


def test_scripts_and_tests_import_what_some_extra_names():
    sources = python_files("conftest.py", "docs/site/*.py", "scripts/**/*.py", "tests/*.py")
    assert third_party(sources) <= names(sum(EXTRAS.values(), DEPENDENCIES))


def test_every_requirement_has_a_lower_bound():
    for requirement in sum(EXTRAS.values(), DEPENDENCIES):
        lower = [each for each in requirement.specifier if each.operator in (">=", "==")]
        assert lower or requirement.name == PROJECT["name"], requirement


def test_requirements_txt_is_the_package_with_its_notebooks():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["-e .[notebooks,site]"]


def test_binder_installs_torch_within_the_same_bounds():
    lines = (ROOT / "binder" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    requirements = {line for line in lines if not line.startswith(("#", "--"))}
    assert requirements == {each for each in PROJECT["dependencies"] if each.startswith("torch")}


def test_the_lowest_python_is_the_same_everywhere():
    lowest = PROJECT["requires-python"].removeprefix(">=")
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert re.search(r'python: \["([\d.]+)"', workflow)[1] == lowest
    for path in ("README.md", "Makefile"):
        assert f"Python {lowest} or newer" in (ROOT / path).read_text(encoding="utf-8"), path
    assert (ROOT / "binder" / "runtime.txt").read_text().strip() >= f"python-{lowest}"


# --- the wheel ----------------------------------------------------------------------------------


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built offline with the backend that is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", folder, ROOT)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_has_the_package_the_samples_and_nothing_else(wheel):
    def files(folder, name):
        paths = [p for p in (ROOT / folder).rglob("*") if p.is_file()]
        # .po: what the .mo beside it is compiled from, or the repository's own pages.
        paths = [p for p in paths if p.suffix not in (".pyc", ".po")]
        inner = {p.relative_to(ROOT / folder).as_posix() for p in paths}
        return {f"{name}/{path}" for path in inner}

    expected = files("nst_helpers", "nst_helpers") | files("images", "nst_helpers/samples")
    contents = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert contents == expected
    for name in (
        "explorer/explorer.css",
        "network/bundled/README.md",
        "network/bundled/bundled.safetensors",
        "py.typed",
        "samples/CREDITS.md",
        "samples/chelsea.jpg",
    ):
        assert f"nst_helpers/{name}" in contents
    assert wheel.stat().st_size < 8e6


def test_the_wheel_says_what_it_is(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (path,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(path).decode())
    assert metadata["Version"] == nst.__version__
    assert metadata["License-Expression"] == "MIT"
    assert set(EXTRAS) == set(metadata.get_all("Provides-Extra"))


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """The interpreter of an environment with the wheel and, by path, this one's libraries.

    A .pth file names the folders of this environment's libraries; .pth files in them, such as the
    one that makes the clone importable, are not read.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    where = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", where))
    libraries = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "libraries.pth").write_text("\n".join(libraries), encoding="utf-8")
    suffix = ".exe" if sys.platform == "win32" else ""
    interpreter = Path(sysconfig.get_path("scripts", "venv", where)) / f"python{suffix}"
    pip("--python", interpreter, "install", "--no-deps", "--no-index", wheel)
    return interpreter, site


def run(python, folder, *arguments):
    """Isolated (-I): neither the working folder nor PYTHONPATH adds modules."""
    command = [python, "-I", *arguments]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_the_installed_wheel_is_complete(python, tmp_path):
    code = (
        "import nst_helpers as nst; print(nst.__file__); print(*nst.sample_images())\n"
        "print(nst.load_network('bundled', normalise=False).name); nst.StyleTransferExplorer()"
    )
    module, samples, network = run(python[0], tmp_path, "-c", code).splitlines()
    assert Path(module).parent == python[1] / "nst_helpers"
    assert samples.split() == list(nst.sample_images())
    assert network == "bundled network"


def test_the_installed_wheel_makes_a_picture_from_a_sample(python, tmp_path):
    arguments = ["transfer", "chelsea", "night_sky", "-o", "out.png"]
    options = ["--size", "48", "--steps", "2", "--network", "bundled"]
    run(python[0], tmp_path, "-m", "nst_helpers", *arguments, *options)
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) == 48
        assert len(picture.convert("RGB").getcolors(picture.width * picture.height)) > 100
