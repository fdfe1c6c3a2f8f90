"""The table of levels and sizes, and the histogram."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from msnet_d2.data.isbda.statistics import collect_statistics, draw_area_histogram, merge_statistics

CLASSES = ["Slight", "Severe", "Debris"]


def record(areas_by_class, **fields):
    annotations = [
        {"category_id": category, "area": area, "iscrowd": 0, "parent_id": parent}
        for category, area, parent in areas_by_class
    ]
    return {"image_id": 1, "annotations": annotations, **fields}


@pytest.fixture
def statistics():
    # (level, area in pixels, building). 32² = 1024 and 96² = 9216 belong to the larger size.
    return collect_statistics(
        [
            record([(0, 1023, 0), (0, 1024, 0), (0, 9215, 1), (0, 9216, 1)], video_id="5"),
            record([(1, 5000, 0), (2, 90_000, 4), (2, 100, 4)], video_id="5"),
            record([], video_id="6"),
            record([(0, 50, 0)]),
        ],
        CLASSES,
    )


def test_table(statistics):
    # Slight: 1023 and 50 are small, 1024 and 9215 medium, 9216 large.
    assert statistics.table().tolist() == [
        [2, 2, 1, 5],
        [0, 1, 0, 1],
        [1, 0, 1, 2],
        [3, 3, 2, 8],
    ]


def test_counts(statistics):
    # Buildings 0 and 1, 0 and 4, and 0 of the last image.
    assert (statistics.images, statistics.empty_images, statistics.videos) == (4, 1, 2)
    assert statistics.parents == 5


def test_text(statistics):
    assert statistics.as_text().splitlines() == [
        "level      small    medium    large    total",
        "-------  -------  --------  -------  -------",
        "Slight         2         2        1        5",
        "Severe         0         1        0        1",
        "Debris         1         0        1        2",
        "-------  -------  --------  -------  -------",
        "total          3         3        2        8",
        "",
        "4 images (1 without annotations), 2 videos, 8 instances, 5 buildings",
    ]


def test_crowds_are_not_counted():
    crowd = record([(0, 50, 0)])
    crowd["annotations"][0]["iscrowd"] = 1
    statistics = collect_statistics([crowd], CLASSES)
    assert statistics.table().sum() == 0
    assert (statistics.parents, statistics.empty_images) == (0, 1)


def test_nothing_at_all():
    statistics = collect_statistics([], CLASSES)
    assert statistics.table().tolist() == [[0] * 4] * 4
    assert "0 images (0 without annotations), 0 videos" in statistics.as_text()


def test_sums(statistics):
    total = merge_statistics([statistics, statistics])
    assert (total.table() == 2 * statistics.table()).all()
    assert (total.images, total.videos, total.parents) == (8, 4, 10)


def test_histogram_has_the_colors_of_the_levels(statistics, tmp_path):
    colors = [[10, 200, 30], [250, 170, 0], [200, 30, 40]]
    path = tmp_path / "deep" / "h.png"
    draw_area_histogram(statistics, path, colors)
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    counts = [int((pixels == color).all(axis=1).sum()) for color in colors]
    # The 90th percentile of the 8 areas is interpolated at 0.9 * 7 = 6.3 between the 7th, 9216,
    # and the 8th, 90,000: only the largest, of Debris, is left out. Five bars of Slight, and one
    # of each other, all of height 1 but the first two Slight ones and a Debris, in one bin.
    assert all(count > 100 for count in counts)
    assert counts[0] > counts[1]
    assert [p.name for p in path.parent.iterdir()] == ["h.png"]


def test_histogram_of_nothing_and_of_one(tmp_path):
    draw_area_histogram(collect_statistics([], CLASSES), tmp_path / "none.png")
    draw_area_histogram(collect_statistics([record([(0, 50, 0)])], CLASSES), tmp_path / "one.png")
    for name in ("none.png", "one.png"):
        with Image.open(tmp_path / name) as image:
            assert image.size == (1050, 630)
