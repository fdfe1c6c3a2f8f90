"""Settings of the documentation, which ``make docs`` builds without a network."""

from __future__ import annotations

import importlib.metadata
import os
import re
import warnings
from pathlib import Path

from msnet_d2.utils.third_party_warnings import silence_third_party_warnings

silence_third_party_warnings()
warnings.filterwarnings("ignore", category=DeprecationWarning)

project = "msnet_d2"
author = "The msnet_d2 authors"
copyright = author
release = importlib.metadata.version("msnet_d2")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxarg.ext"]
exclude_patterns = ["_build"]
smartquotes = False  # they make a dash of the two of an option
html_theme = "furo"
html_title = "msnet_d2"
html_static_path = ["_static"]
html_show_copyright = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# The domain of the command reference answers to no links.
myst_ref_domains = ["std", "py"]

DOCS = Path(__file__).resolve().parent
_INCLUDE = re.compile(r"^```\{include\} (\S+)", re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def setup(app) -> None:
    """Let links between Markdown files of the repository lead to pages of the site."""
    app.connect("source-read", _lead_links_of_page)
    app.connect("include-read", _lead_links_of_included_file)


def _pages() -> dict[Path, str]:
    """The page of each Markdown file: of those in docs/, and of those that they include."""
    pages = {}
    for page in DOCS.rglob("*.md"):
        name = "/" + page.relative_to(DOCS).as_posix()
        pages[page] = name
        for included in _INCLUDE.findall(page.read_text(encoding="utf-8")):
            pages[(page.parent / included).resolve()] = name
    return pages


def _lead_links_of_page(app, name: str, content: list[str]) -> None:
    """Of a page; MyST offers files that are not Markdown for download."""
    content[0] = _lead_links(content[0], (DOCS / name).parent, keep_files=True)


def _lead_links_of_included_file(app, path: Path, parent: str, content: list[str]) -> None:
    """Of a file that a page includes; of links to files without a page only the text stays."""
    folder = Path(os.path.abspath(DOCS / path)).parent
    content[0] = _lead_links(content[0], folder, keep_files=False)


def _lead_links(text: str, folder: Path, keep_files: bool) -> str:
    """Rewrite relative links. Those that lead nowhere stay as they are, and MyST warns of them."""
    pages = _pages()

    def rewritten(match: re.Match) -> str:
        label, target, anchor = match.groups()
        file = (folder / target).resolve()
        if ":" in target or not file.exists():
            return match.group()
        if file in pages:
            return f"[{label}]({pages[file]}{anchor or ''})"
        return match.group() if keep_files and file.suffix != ".md" else label

    return _LINK.sub(rewritten, text)
