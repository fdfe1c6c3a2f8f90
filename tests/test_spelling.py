"""Identifiers are spelled as Detectron2 and Python spell theirs: in American English."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
FOLDERS = ("msnet_d2", "projects", "tests", "benchmarks", "configs", "docs", "examples")
# Stems, as parts of identifiers: "colour" finds COLOURS and pick_colour.
BRITISH = re.compile(
    "analyse|artefact|behaviour|catalogue|centre|colour|fibre|grey|labell|licence|metre|modelling"
    "|neighbour|storey|travell"
    r"|(?:initial|normal|optim|organ|raster|recogn|serial|summar|visual|minim|maxim)is[eai]|synthesise",
    re.IGNORECASE,
)
AMERICAN = re.compile("optimistic|normalist|synthesis$", re.IGNORECASE)


def british_names(code: str) -> list[str]:
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    names = {token.string for token in tokens if token.type == tokenize.NAME}
    return sorted(n for n in names if BRITISH.search(n) and not AMERICAN.search(n))


@pytest.mark.parametrize("name", ["COLOURS", "pick_colour", "initialised", "test_neighbours"])
def test_british_names_are_found(name):
    assert british_names(f"{name} = 1  # a colour\n'centre'") == [name]


def test_american_names_are_not():
    code = "colors = initialized = center = optimistic = synthesis = parameter = perimeter = 1"
    assert british_names(code) == []


def test_identifiers_are_american():
    found = {}
    for folder in FOLDERS:
        for path in sorted((CHECKOUT / folder).rglob("*.py")):
            names = british_names(path.read_text(encoding="utf-8"))
            if names:
                found[str(path.relative_to(CHECKOUT))] = names
    assert found == {}
