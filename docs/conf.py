"""Settings of the documentation, which ``make docs`` builds without a network."""

from __future__ import annotations

import importlib.metadata
import warnings

from msnet_d2.utils.third_party_warnings import silence_third_party_warnings

silence_third_party_warnings()
warnings.filterwarnings("ignore", category=DeprecationWarning)

project = "msnet_d2"
author = "The msnet_d2 authors"
copyright = author
release = importlib.metadata.version("msnet_d2")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxarg.ext"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "msnet_d2"
html_static_path = ["_static"]
html_show_copyright = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# Pages that stand beside the code are included here; their links lead to files of the repository.
suppress_warnings = ["myst.xref_missing"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# The domain of the command reference answers to no links.
myst_ref_domains = ["std", "py"]
