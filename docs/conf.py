"""Sphinx builds the site by this: ``make docs``."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from docutils.utils.math.latex2mathml import tex2mathml

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import reference_tables  # noqa: E402

project = "lfads-lightning"
author = "lfads-lightning developers"
copyright = f"2026, {author}"
version = release = version_of("lfads-lightning")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build", "generated"]
html_theme = "pydata_sphinx_theme"
html_context = {"default_mode": "auto"}  # without it each page tells the console of an error
html_title = "lfads-lightning"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_math_renderer = "mathml"
html_show_sourcelink = False
# pages with wide tables, and those without a section, have the width to themselves
ALONE = ("parameters", "commands", "session-keys")
html_sidebars = {
    page: [] for page in ("quickstart", "contributing", *(f"reference/{p}" for p in ALONE))
}

myst_enable_extensions = ["dollarmath", "amsmath", "attrs_block", "colon_fence", "deflist"]
myst_heading_anchors = 3
# tutorials are trained anew at each build, in a folder of their own
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_ipywidgets_js = {}  # no scripts from elsewhere: bars are left out of the pages

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# sections that list what the reference has on pages of its own
GENERATED_SECTIONS = ("Keys of a session:", "Parameters:", "Options:")


def without_lists(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Cut a docstring where the generated list of parameters and keys begins."""
    for number, line in enumerate(lines):
        if line.strip() in GENERATED_SECTIONS:
            del lines[number:]
            return


def short_signature(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: Any
) -> tuple[str, Any] | None:
    """Leave the hundred keywords of a function to the reference, as ``**parameters``."""
    if signature is None or len(signature) < 1500:
        return None
    code = getattr(getattr(obj, "__wrapped__", obj), "__code__", None)
    named = () if code is None else code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return f"({', '.join([*named, '**parameters'])})", returns


def visit_math(self: Any, node: Any) -> None:
    """Write a formula as MathML, which browsers draw without a script."""
    self.body.append(tex2mathml(node.astext()))
    raise_skip()


def visit_displaymath(self: Any, node: Any) -> None:
    """Write a formula on lines of its own."""
    self.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise_skip()


def raise_skip() -> None:
    """End the visit: what is in the node is written."""
    from docutils.nodes import SkipNode

    raise SkipNode


def setup(app: Any) -> None:
    """Write the generated tables, and join in where docstrings and formulas are read."""
    app.connect("builder-inited", lambda app: reference_tables.write())
    app.connect("autodoc-process-docstring", without_lists, priority=1)
    app.connect("autodoc-process-signature", short_signature)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_displaymath, None))
