"""Sphinx: the pages of this folder, and the docstrings; nothing is fetched while it builds."""

import nets_deap

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
