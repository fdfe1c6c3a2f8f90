"""The same seed gives the bytes of generator version 1, file by file.

A change of these digests is a change of every data set that was ever rendered: raise
``GENERATOR_VERSION`` with it, and say so in the changelog.
"""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

import cv2
import numpy as np
import pytest
from synthetic_flights.config import GENERATOR_VERSION, SceneConfig
from synthetic_flights.writer import DatasetPlan, write_dataset

from msnet_d2.utils.output_folder import MANIFEST

av = pytest.importorskip("av")

# Encoders and the rounding of vector instructions belong to the bytes. Between AVX2 and AVX-512
# they are the same.
MADE_WITH = {"numpy": "2.4.6", "cv2": "5.0.0", "av": "18.1.0", "machine": "x86_64"}
HERE = {
    "numpy": np.__version__,
    "cv2": cv2.__version__,
    "av": av.__version__,
    "machine": platform.machine(),
}


def digest(folder: Path) -> str:
    """SHA-256 of the names and contents of all files of a data set, without the list of them."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST):
        total.update(str(path.relative_to(folder)).encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


@pytest.mark.skipif(
    MADE_WITH != HERE or "AVX2" not in cv2.getCPUFeaturesLine(),
    reason=f"the digests hold for {MADE_WITH} and a processor with AVX2",
)
@pytest.mark.parametrize(
    ("scene", "plan", "expected"),
    [
        # With videos and flight logs; parts that are caved in, torn, under a tarp, without siding.
        (
            {
                "width": 192,
                "height": 108,
                "fps": 4.0,
                "seconds": 1.0,
                "seed": 2,
                "supersample": 1.0,
            },
            {"videos": 2, "every": 2},
            "7d72194cb85e8362c7c3761cb41b527db6b2c53c17e2d7a110ec70d4243ae6ed",
        ),
        # Pictures alone, at the default supersampling, with rubble.
        (
            {"width": 160, "height": 90, "fps": 1.0, "seconds": 3.0, "seed": 5},
            {"videos": 3, "every": 1, "write_videos": False},
            "e8da42ef36d8591b49562a7cecf69746f5f49d8e8cc5074b72bf685337bddb15",
        ),
    ],
)
def test_without_options_a_seed_gives_the_bytes_that_it_gave(tmp_path, scene, plan, expected):
    assert GENERATOR_VERSION == 1
    write_dataset(DatasetPlan(tmp_path / "d", SceneConfig(**scene), **plan))
    assert digest(tmp_path / "d") == expected
