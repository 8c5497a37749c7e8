"""Sphinx: the pages of this folder, the notebooks and docstrings; nothing is fetched to build them.

Notebooks are shown with the outputs that they hold, through a link that is made here. Figures
of the gallery are drawn by matplotlib's own directive, in a folder that is thrown away.
"""

import atexit
import inspect
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import nets_deap
from nets_deap.training.engines import dispatch

project = "nets_deap"
copyright = "The nets_deap authors; MIT licence"
version = release = nets_deap.__version__
extensions = [
    "matplotlib.sphinxext.plot_directive",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxarg.ext",
]
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
myst_heading_anchors = 3
nb_execution_mode = "off"
plot_formats = [("png", 120)]
plot_html_show_formats = plot_html_show_source_link = False
plot_include_source = True
plot_working_directory = tempfile.mkdtemp()
atexit.register(shutil.rmtree, plot_working_directory, ignore_errors=True)

README_LINKS = {
    ".docs/": "",
    ".github/CONTRIBUTING.md": "contributing.md",
    ".github/CHANGELOG.md": "changelog.md",
    ".github/CITATION.cff": "citing.md",
}


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


def table_of_baselines() -> str:
    """Return what ``nets_deap.baselines`` has registered as a table in Markdown."""
    lines = ["| name | what it does |", "| --- | --- |"]
    for name, made in nets_deap.baselines.BASELINES.items():
        options = ", ".join(f"{k}={v!r}" for k, v in getattr(made, "keywords", {}).items())
        function = getattr(made, "func", made)
        about = (
            (inspect.getdoc(function) or "")
            .partition("\n")[0]
            .replace("``", "`")
            .replace("|", "\\|")
        )
        lines.append(f"| `{name}` | {f'`{function.__name__}({options})`' if options else about} |")
    return "\n".join(lines)


def readme() -> str:
    """Return the README with its links as the pages of this folder have them."""
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    for there, here in README_LINKS.items():
        text = text.replace(f"]({there}", f"]({here}")
    # By the names of their pages: paths would be followed out of this folder.
    return re.sub(r"\[([^]]*)\]\((notebooks/.*?)\.ipynb\)", r"{doc}`\1 <\2>`", text)


def _fill_in(app: Any, page: str, source: list[str]) -> None:
    """Put what is registered, and the README, in the place of its name."""
    text = source[0].replace("{{ objectives }}", table_of_objectives())
    text = text.replace("{{ readme }}", readme())
    text = text.replace("{{ baselines }}", table_of_baselines())
    source[0] = text.replace("{{ engines }}", list_of_engines())


def setup(app: Any) -> None:
    """Let Sphinx fill in tables, and read the notebooks as if they lay among the pages."""
    link = Path(__file__).parent / "notebooks"
    if not link.exists():
        link.symlink_to(Path("..", "notebooks"), target_is_directory=True)
    app.connect("source-read", _fill_in)
