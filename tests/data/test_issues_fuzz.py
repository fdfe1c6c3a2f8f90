"""Whatever a JSON says, the check gives a list and loading gives records or a DatasetError."""

from __future__ import annotations

import copy
import json
import os
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_util

from msnet_d2.data import Issue, find_issues, load_isbda_json
from msnet_d2.errors import DatasetError

# `make fuzz` raises it.
ROUNDS = int(os.environ.get("MSNET_FUZZ_ROUNDS", "300"))

NASTY = [
    None, True, 0, 1, -1, 2**31, 2**63, 10**400, 1e308, -1e308, 1e-320, 1e9, float("nan"),
    float("inf"), "", "1", "x" * 300, "\ud800", "\0", "../x", [], [[]], [[[]]], {}, {"id": 1},
    [1, 2, 3, 4], [0, 0, 1e9, 1e9], [[0, 0, 1e6, 1e6, 0, 1e6]], {"size": [80, 100], "counts": "0"},
    {"size": [80, 100], "counts": [1e300]}, {"size": [80, 100], "counts": "oooooooooo"},
]  # fmt: skip

json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
        st.sampled_from(NASTY),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(["id", "image_id", "file_name", "width", "height", "bbox", "name",
                             "category_id", "segmentation", "counts", "size", "damage_bbox"]),
            inner, max_size=5,
        ),
    ),
    max_leaves=12,
)  # fmt: skip


def survive(json_file, root):
    issues = find_issues(json_file, root, check_images=False)
    assert isinstance(issues, list)
    for issue in issues:
        assert isinstance(issue, Issue)
        assert issue.severity in ("fatal", "dropped", "kept")
        assert len(str(issue).encode("utf-8")) < 2000
    json.dumps([issue.as_dict() for issue in issues])
    try:
        records = load_isbda_json(json_file, root)
    except DatasetError:
        assert any(issue.fatal for issue in issues)
        return
    assert not any(issue.fatal for issue in issues)
    for record in records:
        size = record["height"], record["width"]
        for annotation in record["annotations"]:
            # What is let through can be rasterised.
            segmentation = annotation.get("segmentation")
            if isinstance(segmentation, list):
                mask_util.frPyObjects(segmentation, *size)
            elif segmentation is not None:
                assert mask_util.decode(segmentation).shape == size


@settings(
    max_examples=ROUNDS, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(images=json_values, annotations=json_values, categories=json_values)
def test_any_json(tmp_path, images, annotations, categories):
    path = tmp_path / "x.json"
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))
    survive(path, tmp_path)


def places(value, path=()):
    """Paths of everything inside a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items if isinstance(value, (dict, list)) else ():
        if isinstance(inner, (dict, list)):
            yield from places(inner, (*path, key))
        else:
            yield (*path, key)


@pytest.mark.parametrize("seed", range(4))
def test_a_sound_file_with_some_values_replaced(isbda_content, tmp_path, seed):
    generator = random.Random(seed)
    where = [path for path in places(isbda_content) if path]
    json_file = tmp_path / "x.json"
    for _ in range(ROUNDS // 4):
        content = copy.deepcopy(isbda_content)
        for path in generator.sample(where, generator.randint(1, 3)):
            try:
                target = content
                for key in path[:-1]:
                    target = target[key]
                target[path[-1]] = copy.deepcopy(generator.choice(NASTY))
            except (TypeError, KeyError, IndexError):
                pass  # an earlier replacement took the place away
        json_file.write_text(json.dumps(content))
        survive(json_file, tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_a_sound_file_with_some_bytes_replaced(isbda_content, tmp_path, seed):
    generator = random.Random(seed)
    original = json.dumps(isbda_content).encode()
    json_file = tmp_path / "x.json"
    for _ in range(ROUNDS // 4):
        content = bytearray(original)
        for _ in range(generator.randint(1, 5)):
            content[generator.randrange(len(content))] = generator.choice(
                b'0123456789.-e"[]{},\xff'
            )
        json_file.write_bytes(content)
        survive(json_file, tmp_path)
