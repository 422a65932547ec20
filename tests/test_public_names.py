"""The names people type, which module may know which, and how large a module may get."""

import ast
import functools
import graphlib
import importlib
import inspect
import re
from pathlib import Path

import pytest

import nst_helpers as nst

PACKAGE = Path(nst.__file__).parent
# Every module by its dotted name, such as "network.features", and its syntax tree.
TREES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(
        path.read_text(encoding="utf-8")
    )
    for path in sorted(PACKAGE.rglob("*.py"))
}
MODULES = [name for name in TREES if not name.endswith("__init__")]
LESSON = [name for name in MODULES if name.startswith("lesson.")]
SUB_PACKAGES = [name for name in TREES if name.endswith(".__init__")]
# A module of the package, or a sub-package, imports only from the rows above its own.
ROWS = [
    {"_validate", "_signals", "download", "files", "language"},
    {"_console", "images", "engine"},
    {"network", "control", "layer_losses", "_convert", "_outputs", "_option_values"},
    {"losses", "optimization", "_option_checks", "_contents"},
    {"_job", "cluster", "prints", "_options", "_conventions", "_watch", "_inputs", "_endings"},
    {"sweeps", "plots", "_painting"},
    {"explorer", "lesson"},
    {"__main__"},
]
# The contract: taking one of these away breaks somebody's notebook.
NAMES = [
    # Picture file to image, and back.
    *("load_alpha", "load_image", "load_settings", "noise_like", "resize_image"),
    *("sample_images", "save_animation", "save_image", "to_pil", "fetch_image"),
    *("load_masks", "match_colors", "restore_colors"),
    # Image to feature maps.
    *("Features", "load_network", "load_weights", "normalise_activations"),
    *("best_device", "describe_device"),
    # Feature maps to numbers.
    *("CONTENT_LAYERS", "STYLE_LAYERS", "LossTerms", "StyleTransferLoss", "content_loss"),
    *("gram_matrix", "style_loss", "total_variation"),
    # Numbers to image.
    *("Loss", "Progress", "Result", "estimate_memory", "optimize", "alpha_beta_sweep", "sweep"),
    # The ways to look at it.
    *("LiveView", "StyleTransferExplorer", "budget", "figures_as_jpeg", "plot_history"),
    *("plot_layers", "set_language", "show_images", "show_matrix"),
]
RECORDS = ("Loss", "LossTerms", "Progress", "Result")  # attributes rather than parameters
# Longer than 350 lines, for the docstrings of the core are what a learner reads.
LONG_MODULES = ("images", "losses", "optimization")
CORE = ("images", "network.features", "layer_losses", "losses", "optimization")


def unit(module):
    return module.split(".")[0]


@functools.cache
def imports(module):
    """Full names of all that a module imports, wherever in the file."""
    names = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def imports_of_ours(module):
    """Dotted names of the package's modules that a module imports."""
    ours = {name.removeprefix("nst_helpers.") for name in imports(module)}
    return (ours & set(MODULES)) - {module}


# --- names ---------------------------------------------------------------------------------------


def test_the_public_names_are_the_contract_in_the_order_of_the_data_flow():
    assert len(NAMES) == 43
    assert nst.__all__ == NAMES
    assert all(getattr(nst, name) is not None for name in NAMES)  # imported when first used
    public = {n for n in vars(nst) if not n.startswith("_") and not inspect.ismodule(vars(nst)[n])}
    assert public == set(NAMES)  # one level, nothing beside it


def test_every_public_name_is_declared_by_the_one_module_that_defines_it():
    modules = [importlib.import_module(f"nst_helpers.{name}") for name in MODULES]
    declared = {name: m for m in modules for name in getattr(m, "__all__", ())}
    assert len(declared) == sum(len(getattr(m, "__all__", ())) for m in modules), "declared twice"
    for name in NAMES:
        assert getattr(nst, name) is getattr(declared[name], name)
    for name, module in declared.items():
        assert hasattr(module, name)


def test_the_version_is_a_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", nst.__version__)


@pytest.mark.parametrize(
    ("function", "arguments", "options"),
    [
        (nst.load_image, ("photo.jpg",), {"size": 256}),
        (nst.load_network, ("auto",), {}),
        (nst.StyleTransferLoss, ("net",), {"content": 1, "style": 2, "alpha": 1e-3, "beta": 1.0}),
        (nst.StyleTransferLoss, ("net",), {"content": None, "style": 2, "content_layers": ()}),
        (nst.StyleTransferLoss, ("net",), {"content": 1, "style": None, "style_layers": ()}),
        (nst.StyleTransferLoss, ("net",), {"style": 2, "style_layer_weights": {}}),
        (nst.content_loss, ("features", "target"), {"convention": "paper"}),
        (nst.style_loss, ("features", "target"), {"convention": "paper", "masks": "masks"}),
        (nst.gram_matrix, ("features",), {"masks": "masks"}),
        (nst.StyleTransferLoss, ("net",), {"style": [1, 2], "style_weights": (0.3, 0.7)}),
        (nst.StyleTransferLoss, ("net",), {"content_mask": 1, "style_mask": 2}),
        (nst.StyleTransferLoss, ("net",), {"styles_per_image": True, "region_weights": (1, 2)}),
        (nst.load_masks, ("masks.png",), {"size": 256}),
        (nst.match_colors, ("style", "content"), {}),
        (nst.restore_colors, ("result", "content"), {}),
        (nst.total_variation, ("image",), {}),
        (nst.noise_like, ("content",), {"seed": 0}),
        (nst.optimize, ("loss", "start"), {"steps": 300, "optimizer": "lbfgs", "callback": None}),
        (
            nst.optimize,
            ("loss", "start"),
            {"lr": 1, "history_size": 9, "pyramid": (), "precondition": 0.5, "range_weight": 3},
        ),
        (nst.optimize, ("loss", "start"), {"snapshots": (1, 2)}),
        (nst.estimate_memory, ("loss", "shape"), {"optimizer": "adam", "history_size": 9}),
        (nst.save_image, ("image", "out.png"), {}),
        (nst.save_animation, ("images", "out.webp"), {"quality": 80}),
        (nst.show_images, (["a"],), {"titles": ["b"]}),
        (nst.alpha_beta_sweep, ("net", "content", "style"), {"ratios": (1e-4, 1e-3, 1e-2, 1e-1)}),
        (nst.fetch_image, ("name",), {}),
        (nst.budget, (512, 96), {}),
    ],
)
def test_the_calls_of_the_contract_fit_the_signatures(function, arguments, options):
    inspect.signature(function).bind(*arguments, **options)


# --- documentation: numpydoc and ruff look at what is in a docstring, in make lint ---------------


@pytest.mark.parametrize("name", [n for n in NAMES if callable(getattr(nst, n))])
def test_a_public_name_has_a_docstring_with_its_parameters(name):
    thing = getattr(nst, name)
    text = inspect.getdoc(thing)
    assert re.search(r"\w.*\.$", text.split("\n\n")[0])
    if name not in RECORDS and set(inspect.signature(thing).parameters) - {"self"}:
        assert "\nParameters\n----------\n" in text


@pytest.mark.parametrize("module", TREES)
def test_every_module_has_a_docstring_and_names_what_it_offers(module):
    body = TREES[module].body
    assert ast.get_docstring(TREES[module])
    if module in SUB_PACKAGES:
        assert len(body) == 1, "not empty: import from the module that defines a name"
    elif not unit(module).startswith("_"):
        assert any(ast.unparse(node).startswith("__all__") for node in body)


# --- which module may know which -----------------------------------------------------------------


def test_every_module_has_its_row():
    assert {unit(module) for module in MODULES} == set.union(*ROWS)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_rows_above_or_its_own_sub_package(module):
    (row,) = (i for i, units in enumerate(ROWS) if unit(module) in units)
    allowed = set.union({unit(module)} if "." in module else set(), *ROWS[:row])
    assert {unit(name) for name in imports_of_ours(module)} <= allowed
    # What is public is taken from the module that defines it.
    from_package = {name.removeprefix("nst_helpers.") for name in imports(module)} & set(NAMES)
    assert not from_package


def test_no_modules_import_each_other():
    graphlib.TopologicalSorter({m: imports_of_ours(m) for m in MODULES}).prepare()


def test_the_imports_go_down_seven_levels_at_most():
    units = {unit(module): set() for module in MODULES}
    for module in MODULES:
        units[unit(module)] |= {unit(name) for name in imports_of_ours(module)} - {unit(module)}

    def level(name):
        return 1 + max(map(level, units[name]), default=0)

    assert max(map(level, units)) <= 7


@pytest.mark.parametrize(
    ("module", "unknown"),
    [
        ("optimization", {"network", "losses", "images"}),  # it minimises any loss of any image
        ("losses", {"optimization"}),
        ("layer_losses", {"network", "images", "control"}),
        ("cluster", {"sweeps", "_job"}),  # it is handed its job
        ("network.features", {"images"}),
    ],
)
def test_modules_that_must_not_know_each_other_do_not(module, unknown):
    assert not {unit(name) for name in imports_of_ours(module)} & unknown


@pytest.mark.parametrize(
    ("library", "knowing"),
    [
        ("PIL", {"images", *(m for m in MODULES if unit(m) == "files")}),
        ("torchvision", {"network.weights"}),
        ("safetensors", {"network.weights"}),
        ("psutil", {"engine.memory", "engine.threads"}),
        ("numpy", {"images", "plots", *(m for m in MODULES if unit(m) == "files")}),
        ("matplotlib", {"plots", *LESSON}),
        ("matplotlib_inline", {"lesson.notebook"}),
        ("IPython", {"plots", "explorer.frontend", *LESSON}),
        ("ipywidgets", {m for m in MODULES if unit(m) == "explorer"}),
        ("traitlets", {"explorer.widgets"}),
        ("tqdm", {"_watch", "cluster"}),  # a bar for steps, and one for the runs of a cluster
        ("distributed", {"cluster", "sweeps"}),  # in sweeps, for a type checker only
        ("dask", {"cluster"}),
        ("urllib.request", {"download"}),  # the internet
    ],
)
def test_no_other_module_knows_the_library(library, knowing):
    modules = {m for m in MODULES if any(f"{n}.".startswith(f"{library}.") for n in imports(m))}
    assert modules <= knowing
    assert modules


@pytest.mark.parametrize("module", TREES)
def test_no_assert_guards_the_user_and_no_import_is_relative(module):
    # python -O removes asserts, and they say nothing.
    nodes = list(ast.walk(TREES[module]))
    assert not [node.lineno for node in nodes if isinstance(node, ast.Assert)]
    assert not [node.lineno for node in nodes if isinstance(node, ast.ImportFrom) and node.level]


# --- sizes ---------------------------------------------------------------------------------------


def lines(module):
    path = PACKAGE.joinpath(*module.split(".")).with_suffix(".py")
    return path.read_text(encoding="utf-8").splitlines()


def lines_of_code(function, module):
    """Lines of a function's body without docstring, comments and blank lines."""
    body = function.body[bool(ast.get_docstring(function)) :]
    if not body:
        return 0
    source = [line.strip() for line in lines(module)[body[0].lineno - 1 : function.end_lineno]]
    return sum(bool(line) and not line.startswith("#") for line in source)


def attributes(definition):
    """Names that a class sets on self."""
    return {
        node.attr
        for node in ast.walk(definition)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and ast.unparse(node.value) == "self"
    }


@pytest.mark.parametrize("module", TREES)
def test_modules_functions_and_classes_stay_small(module):
    assert len(lines(module)) <= (420 if module in LONG_MODULES else 350)
    nodes = list(ast.walk(TREES[module]))
    functions = [n for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert not [f.name for f in functions if lines_of_code(f, module) > 50]
    # L-BFGS is dense because the algorithm is.
    classes = [n for n in nodes if isinstance(n, ast.ClassDef) and n.name != "LBFGS"]
    assert not [c.name for c in classes if len(attributes(c)) > 12]


def test_the_core_is_read_in_an_hour():
    assert sum(len(lines(module)) for module in CORE) <= 1400
