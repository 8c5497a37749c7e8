"""Sphinx: the pages of this folder, and the docstrings; nothing is fetched while it builds."""

from typing import Any

import nets_deap
from nets_deap.training.engines import dispatch

project = "nets_deap"
version = release = nets_deap.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxarg.ext"]
html_theme = "furo"
html_title = f"nets_deap {version}"
html_copy_source = html_show_sourcelink = False

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_ivar = True  # attributes are documented in their class, once
napoleon_custom_sections = [("Reference", "notes_style")]
myst_heading_anchors = 2


def table_of_objectives() -> str:
    """Return what ``nets_deap.objectives`` has registered as a table in Markdown."""
    objectives = nets_deap.objectives
    rows = [(name, objective) for name, objective in objectives.OBJECTIVES.items()]
    for name, make in objectives.FACTORIES.items():
        number = 64 if name.startswith("latency") else 0.3
        rows.append((f"{name}:{number:g}", make(number)))
    lines = [f"| `{name}` | {one.direction} | {one.about} |" for name, one in rows]
    return "\n".join(["| name | direction | what it is |", "| --- | --- | --- |", *lines])


def list_of_engines() -> str:
    """Return what ``Task(engine=)`` can be, and what each needs, as a list."""
    engines = dispatch.ENGINES.values()
    return "\n".join(f"- ``{engine.name}``: {engine.needs}." for engine in engines)


def _fill_in(app: Any, page: str, source: list[str]) -> None:
    """Put what is registered in the place of its name."""
    text = source[0].replace("{{ objectives }}", table_of_objectives())
    source[0] = text.replace("{{ engines }}", list_of_engines())


def setup(app: Any) -> None:
    """Let Sphinx fill in tables."""
    app.connect("source-read", _fill_in)
