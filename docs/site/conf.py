"""The site's settings for Sphinx: scripts/site.py lays out the pages, and says what is built."""

import inspect
import os
import re

import latex2mathml.converter
from docutils.nodes import SkipNode

import nst_helpers

REPOSITORY = "https://github.com/nst-helpers/nst-helpers"

language = os.environ.get("NST_SITE_LANGUAGE", "en")
TITLES = {
    "en": "Neural Style Transfer, from white noise",
    "ko": "뉴럴 스타일 트랜스퍼, 백색 잡음에서 시작하기",
}
project = TITLES[language]
author = "The nst_helpers authors"
release = nst_helpers.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "numpydoc"]

# Prose and stored outputs as they are: nothing is executed here.
nb_execution_mode = "off"
nb_merge_streams = True
if language == "ko":
    nb_code_prompt_show, nb_code_prompt_hide = "코드 보기", "코드 숨기기"
myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type", "myst.header"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc's sections have them
numpydoc_show_class_members = False

templates_path = ["_templates"]
html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_math_renderer = "mathml"
html_theme_options = {
    "navbar_start": [],
    "navbar_persistent": [],
    "repository_url": REPOSITORY,
    "repository_branch": "main",
    "use_repository_button": True,
    "use_fullscreen_button": False,
    "launch_buttons": {
        "binderhub_url": "https://mybinder.org",
        "colab_url": "https://colab.research.google.com",
        "notebook_interface": "jupyterlab",
    },
    "show_toc_level": 2,
    "article_header_end": ["language.html", "article-header-buttons.html"],
}


def show_formula(translator, node):
    """Write a formula as MathML, which browsers show without a script or the internet."""
    tag, display = ("span", "inline") if node.tagname == "math" else ("div", "block")
    mathml = latex2mathml.converter.convert(node.astext(), display=display)
    translator.body.append(f'<{tag} class="math">{mathml}</{tag}>')
    raise SkipNode


def add_references(app, what, name, thing, options, lines):
    """Give a docstring the references it cites, which stand in its module's."""
    text = "\n".join(lines)
    module = inspect.getdoc(inspect.getmodule(thing)) or ""
    section = module.partition("References\n----------\n")[2]
    entries = dict(re.findall(r"(?ms)^\.\. \[(\d+)\] (.*?)(?=^\.\. \[|\Z)", section))
    cited = [number for number in entries if f"[{number}]_" in text]
    if cited and "References\n---" not in text:
        lines += ["", "References", "----------"]
        for number in cited:
            lines += f".. [{number}] {entries[number].strip()}".splitlines()


def link_languages(app, page, template, context, doctree):
    """Tell each page where it is in the other language."""
    name = page.replace("notebooks/ko/", "notebooks/").removesuffix(".ko")
    root = context["content_root"] + ("../" if language == "ko" else "")
    if language == "ko":
        context["other_language"] = {"code": "en", "name": "English", "url": f"{root}{name}.html"}
        return
    name = name.replace("notebooks/", "notebooks/ko/")
    if name == "README" or name.startswith("docs/"):
        name += ".ko"
    context["other_language"] = {"code": "ko", "name": "한국어", "url": f"{root}ko/{name}.html"}


def setup(app):
    """Add to Sphinx what is said above."""
    app.add_html_math_renderer("mathml", (show_formula, None), (show_formula, None))
    app.connect("autodoc-process-docstring", add_references, priority=1)  # before numpydoc
    app.connect("html-page-context", link_languages)
    return {"version": release, "parallel_read_safe": True, "parallel_write_safe": True}
