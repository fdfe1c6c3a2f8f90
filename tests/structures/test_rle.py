"""Run-length masks are read as pycocotools writes them, and refused where it would not check."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as mask_util

from msnet_d2.structures.rle import checked_rle, rle_counts


def test_counts_by_hand():
    # "0" is 48 and stands for 0. 5 -> "5". 40 = 8 + 32: low five bits 8 with the sign that more
    # follows, 48 + 8 + 32 = "X", then 1, "1". The third count is as it is: 3 -> "3". The fourth
    # is the difference to the second, 38 - 40 = -2: five bits 30, whose sign bit is set: "N".
    assert rle_counts("5X13N") == [5, 40, 3, 38]


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 1)
    )
)
def test_what_pycocotools_writes_is_read(mask):
    encoded = mask_util.encode(np.asfortranarray(mask))
    checked, area = checked_rle(encoded, *mask.shape)
    assert area == mask.sum()
    assert (mask_util.decode(checked) == mask).all()
    # Uncompressed: runs of equal pixels down the columns, background first.
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    counts = runs if flat[0] == 0 else [0, *runs]
    assert rle_counts(encoded["counts"]) == counts
    checked, area = checked_rle({"size": list(mask.shape), "counts": counts}, *mask.shape)
    assert checked["counts"] == encoded["counts"]
    assert area == mask.sum()


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=30), st.text(alphabet="0123456789:;PQRSTo`n", max_size=12)))
def test_any_text_is_read_or_refused(text):
    try:
        rle, area = checked_rle({"size": [4, 5], "counts": text}, 4, 5)
    except ValueError:
        return
    assert mask_util.decode(rle).sum() == area <= 20


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ("o" * 9, "more than 35 bits"),
        ("X", "end in the middle"),
        ("é", "contain the character"),
        ("~", "contain the character"),
        ("", "add up to 0, the image has 20"),
        ("4", "add up to 4, the image has 20"),
        (None, "neither text nor a list"),
        ([20.0], "neither text nor a list"),
        ([True] * 20, "neither text nor a list"),
        ([21, -1], "negative count"),
    ],
)
def test_what_is_refused(counts, message):
    with pytest.raises(ValueError, match=message):
        checked_rle({"size": [4, 5], "counts": counts}, 4, 5)
