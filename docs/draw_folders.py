"""Draw ``_static/folders.svg``: the layers that tests/test_architecture.py holds.

python docs/draw_folders.py
"""

from __future__ import annotations

import ast
from html import escape
from pathlib import Path

DOCS = Path(__file__).resolve().parent
PICTURE = DOCS / "_static" / "folders.svg"
WIDTH, HEIGHT, GAP = 720, 34, 8  # of the picture, of a row, between rows; pixels

# What stands in a box beside the name, where the name alone does not say it.
NOTES = {
    "train_net": "python -m msnet_d2.train_net, as Detectron2's tool",
    "cli": "one file per command",
    "damage_map": "pipeline, videos, alignment",
    "damage_map.output": "page and files",
    "damage_map.buildings": "from places to buildings",
    "damage_map.geometry": "from pixels to places",
    "damage_map.telemetry": "flight logs",
    "video": "reader, detector, results, writer",
    "engine": "trainer and hooks",
    "inference": "predictor",
    "evaluation": "metrics",
    "checkpoint": "loading and its report",
    "modeling": "backbone, proposal_generator, roi_heads, meta_arch",
    "data": "isbda, kinds, loading",
    "score_refinement": "network, matching",
    "visualization": "drawing",
    "config": "keys and files",
    "structures": "masks, run lengths",
    "utils": "files, images, messages",
    "projects": "what plugs in",
    "errors": "what a user can mend",
}


def layers() -> list[tuple[str, ...]]:
    """The table ``LAYERS`` of the test, from the bottom to the top."""
    source = (DOCS.parent / "tests" / "test_architecture.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "LAYERS":
            return list(ast.literal_eval(node.value))
    raise LookupError("tests/test_architecture.py has no table LAYERS")


def draw() -> str:
    """The picture as SVG, the top layer first."""
    shapes, y = [], GAP
    for layer in reversed(layers()):
        names = [name for name in layer if name != "version"]
        width = (WIDTH - GAP) // len(names) - GAP
        for column, name in enumerate(names):
            x = GAP + column * (width + GAP)
            shapes += [
                f'<rect x="{x}" y="{y}" width="{width}" height="{HEIGHT}" rx="4"/>',
                f'<text x="{x + 12}" y="{y + 22}" class="name">{escape(name)}</text>',
                f'<text x="{x + width - 12}" y="{y + 22}" class="note">'
                f"{escape(NOTES.get(name, ''))}</text>",
            ]
        y += HEIGHT + GAP
    style = (
        "rect{fill:#eef3f8;stroke:#5b7a99}text{font-family:sans-serif;fill:#1d2b3a}"
        ".name{font-size:14px;font-weight:600}"
        ".note{font-size:12px;text-anchor:end;fill:#4a5b6c}"
    )
    label = "Folders of msnet_d2 in layers. Each imports only what stands below it."
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img" '
            f'aria-label="{label}">',
            f"<style>{style}</style>",
            *shapes,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
