"""The documentation says what is so: its picture, its links, the examples of the README."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md", "projects/*/README.md")
    for path in ROOT.glob(pattern)
)


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def test_the_picture_of_the_folders_is_drawn_from_the_table_of_layers():
    drawing = runpy.run_path(str(ROOT / "docs" / "draw_folders.py"))
    assert drawing["PICTURE"].read_text() == drawing["draw"](), "run docs/draw_folders.py"
    assert set(drawing["NOTES"]) == {n for layer in drawing["layers"]() for n in layer} - {
        "version"
    }


def test_links_of_markdown_files_lead_to_files():
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#\s]+)", without_code(page.read_text()))
        if ":" not in target and not (page.parent / target).exists()
    ]
    assert len(PAGES) > 20
    assert broken == []
