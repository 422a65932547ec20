"""The names people type, their documentation, and which module may know which."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

import nst_helpers as nst

PACKAGE = Path(nst.__file__).parent
ORDER = [
    "budget",
    "devices",
    "images",
    "fetch",
    "weights",
    "features",
    "losses",
    "optimizers",
    "optimize",
    "live",
    "sweep",
    "plots",
    "controls",
    "widgets",
    "checks",
    "__main__",
]
# The contract: taking one of these away breaks somebody's notebook.
NAMES = [
    "CONTENT_LAYERS",
    "Features",
    "LBFGS",
    "LiveRun",
    "LiveView",
    "LossTerms",
    "Progress",
    "Result",
    "STYLE_LAYERS",
    "StyleTransferExplorer",
    "StyleTransferLoss",
    "alpha_beta_sweep",
    "available_memory",
    "best_device",
    "best_precision",
    "budget",
    "check_memory",
    "check_output",
    "content_loss",
    "describe_device",
    "estimate_memory",
    "fetch_image",
    "figure_to_image",
    "gram_matrix",
    "layer_names",
    "load_image",
    "load_network",
    "load_settings",
    "load_weights",
    "noise_like",
    "normalise_activations",
    "optimize",
    "plot_history",
    "plot_layers",
    "resize_image",
    "sample_images",
    "save_animation",
    "save_image",
    "show_images",
    "show_matrix",
    "style_loss",
    "sweep",
    "to_image",
    "to_pil",
    "total_variation",
]
CALLABLE = [n for n in vars(nst) if not n.startswith("_") and callable(vars(nst)[n])]
RECORDS = ("LossTerms", "Progress", "Result")  # made by the package, read by people


def tree(module):
    return ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))


def imports(module):
    """Full names of all modules that a module imports, wherever in the file."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("name", NAMES)
def test_the_name_is_there(name):
    assert hasattr(nst, name)


def test_what_the_package_offers_is_what_its_modules_declare():
    # By importlib, because nst.optimize is the function.
    # The exercises' checks are not for everybody: from nst_helpers import checks.
    inner = [m for m in ORDER if m not in ("checks", "__main__")]
    modules = [importlib.import_module(f"nst_helpers.{m}") for m in inner]
    declared = {name: module for module in modules for name in module.__all__}
    assert len(declared) == sum(len(module.__all__) for module in modules), "declared twice"
    for name, module in declared.items():
        assert getattr(nst, name) is getattr(module, name)
    public = {n for n in vars(nst) if not n.startswith("_") and not inspect.ismodule(vars(nst)[n])}
    assert public == set(declared)


def test_the_version_is_a_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", nst.__version__)


def test_the_calls_of_the_contract_fit_the_signatures():
    def fits(function, *args, **kwargs):
        inspect.signature(function).bind(*args, **kwargs)

    fits(nst.load_image, "photo.jpg", size=256)
    fits(nst.load_network, "auto")
    fits(nst.StyleTransferLoss, "net", content=1, style=2, alpha=1e-3, beta=1.0)
    fits(nst.StyleTransferLoss, "net", content=None, style=2, content_layers=(), style_layers=())
    fits(nst.StyleTransferLoss, "net", style=2, style_layer_weights={})
    fits(nst.noise_like, "content", seed=0)
    fits(nst.optimize, "loss", "start", steps=300, optimizer="lbfgs", callback=None)
    fits(nst.save_image, "image", "out.png")
    fits(nst.show_images, ["a"], titles=["b"])
    fits(nst.alpha_beta_sweep, "net", "content", "style", ratios=(1e-4, 1e-3, 1e-2, 1e-1))


def parameters(thing):
    names = list(inspect.signature(thing).parameters)
    return [name for name in names if name != "self"]


@pytest.mark.parametrize("name", CALLABLE)
def test_it_has_a_docstring_that_starts_with_a_sentence(name):
    assert re.search(r"\w.*[.:]$", inspect.getdoc(getattr(nst, name)).split("\n\n")[0])


@pytest.mark.parametrize(
    "name", [n for n in CALLABLE if n not in RECORDS and parameters(getattr(nst, n))]
)
def test_its_parameters_are_documented(name):
    thing = getattr(nst, name)
    text = inspect.getdoc(thing)
    assert re.search(r"^Parameters\n-+$", text, re.MULTILINE), "no Parameters section"
    section = re.split(r"^Parameters\n-+$", text, flags=re.MULTILINE)[1]
    section = re.split(r"^\w+\n-+$", section, flags=re.MULTILINE)[0]
    heads = " ".join(line for line in section.splitlines() if line and not line.startswith(" "))
    documented = set(re.findall(r"\w+", heads)) | set(re.findall(r"``(\w+)``", text))
    assert set(parameters(thing)) <= documented


@pytest.mark.parametrize("module", ORDER)
def test_public_functions_and_methods_have_docstrings(module):
    def check(body, where):
        for node in body:
            setter = any(
                ast.unparse(d).endswith(".setter") for d in getattr(node, "decorator_list", ())
            )
            public = not setter and not getattr(node, "name", "_").startswith("_")
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and public:
                assert ast.get_docstring(node), f"{where}{node.name}"
                if isinstance(node, ast.ClassDef):
                    check(node.body, f"{node.name}.")

    assert ast.get_docstring(tree(module))
    check(tree(module).body, "")


def test_every_module_has_its_place():
    assert {p.stem for p in PACKAGE.glob("*.py")} == {*ORDER, "__init__"}


@pytest.mark.parametrize("module", ORDER)
def test_a_module_imports_only_from_modules_above_it(module):
    above = {f"nst_helpers.{m}" for m in ORDER[: ORDER.index(module)]}
    for name in imports(module):
        if name.split(".")[0] == "nst_helpers":
            found = ".".join(name.split(".")[:2])
            assert found in above or (module == "__main__" and name == "nst_helpers"), name


@pytest.mark.parametrize(
    ("library", "modules"),
    [
        ("PIL", {"images"}),
        ("torchvision", {"weights"}),
        ("safetensors", {"weights"}),
        ("psutil", {"devices"}),
        ("matplotlib", {"plots"}),
        ("IPython", {"plots", "widgets"}),
        ("ipywidgets", {"controls", "widgets"}),
        ("tqdm", {"__main__", "sweep"}),  # a bar for steps, and one for the runs of a cluster
        ("distributed", {"sweep"}),
        ("dask", {"sweep"}),
    ],
)
def test_no_other_module_knows_the_library(library, modules):
    assert {m for m in ORDER if library in {n.split(".")[0] for n in imports(m)}} == modules


@pytest.mark.parametrize("module", ORDER)
def test_no_assert_guards_the_user(module):
    # python -O removes them, and they say nothing.
    assert not [n.lineno for n in ast.walk(tree(module)) if isinstance(n, ast.Assert)]
