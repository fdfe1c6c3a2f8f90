"""Results of videos by strangers: no more work and output than the file is large, or refused."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from helpers.flights import House, write_flight
from msgspec.structs import replace

from msnet_d2.damage_map.buildings.observations import PartObservation
from msnet_d2.damage_map.buildings.parts import outlines_px
from msnet_d2.damage_map.videos import open_video
from msnet_d2.errors import InputError
from msnet_d2.video.results import decode_results, read_results
from msnet_d2.video.results_writer import write_results

SIZE = (1920, 1080)
BOX = np.array([0.0, 0.0, *SIZE])


def scribble(points):
    """A polygon of random points, whose sides cross each other some points² / 4 times."""
    return (np.random.default_rng(0).random((points, 2)) * SIZE).ravel().round(1).tolist()


def a_part(segmentation):
    return PartObservation(
        level=1, score=0.9, box=BOX, segmentation=segmentation, score_raw=None, track_id=None
    )


@pytest.mark.parametrize("points", [400, 5000])
def test_a_polygon_of_many_points_becomes_an_outline_that_is_cut_and_joined_at_once(points):
    import shapely

    begin = time.process_time()
    outlines = outlines_px(a_part([scribble(points)]), SIZE)
    shapes = [shapely.make_valid(shapely.Polygon(outline)) for outline in outlines]
    shape = shapely.unary_union(shapes)
    assert time.process_time() - begin < 10  # it takes 2 s; 44 s for 400 points, before
    assert sum(map(len, outlines)) <= 400
    # What such a scribble covers is next to everything between its outermost points.
    assert shape.area > 0.8 * SIZE[0] * SIZE[1]  # 0.85 and 0.96 of it


def test_a_mask_of_noise_has_a_bounded_outline_too():
    from pycocotools import mask

    noise = np.random.default_rng(0).random(SIZE[::-1]) < 0.5
    rle = mask.encode(np.asfortranarray(noise.astype(np.uint8)))
    outlines = outlines_px(a_part({**rle, "counts": rle["counts"].decode()}), SIZE)
    assert len(outlines) >= 1
    assert sum(map(len, outlines)) <= 400


def test_a_plain_polygon_keeps_its_corners_to_a_pixel():
    (outline,) = outlines_px(a_part([[100, 100, 300, 100, 300, 200, 100, 200]]), SIZE)
    for corner in ((100, 100), (300, 100), (300, 200), (100, 200)):
        assert np.abs(outline - corner).max(axis=1).min() <= 1


def content(**changes):
    part = {"category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.9}
    sound = {
        "format": "msnet video results",
        "version": 1,
        "video": {"name": "a", "width": 100, "height": 80, "fps": 10.0},
        "model": {"weights_sha256": "0" * 64},
        "categories": [{"id": 1, "name": "Slight"}],
        "frames": [{"index": 0, "time_s": 0.0, "instances": [part | changes.pop("part", {})]}],
        "summary": {},
    }
    for key, values in changes.items():
        sound[key] = sound[key] | values
    return json.dumps(sound).encode()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": {"weights_sha256": "a" * 200_000}}, "weights_sha256"),
        ({"model": {"weights_sha256": "<b>"}}, "weights_sha256"),
        ({"model": {"precision": "x" * 101}}, "precision"),
        ({"video": {"codec": "x" * 101}}, "codec"),
        ({"video": {"name": "x" * 5000}}, "name"),
        ({"summary": {"problems": ["x"] * 101}}, "problems"),
        ({"summary": {"notes": ["x" * 10_001]}}, "notes"),
        ({"summary": {"time_gaps": [[0, 1]] * 1001}}, "time_gaps"),
        ({"part": {"segmentation": [scribble(5001)]}}, "segmentation"),
        ({"part": {"segmentation": [[1, 2, 3, 4, 5, 6]] * 1667}}, "polygons have 5,001 points"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_texts_lists_and_polygons_are_as_long_as_ours_get(changes, reason):
    decode_results(content(), "a.json")
    with pytest.raises(InputError, match=reason) as error:
        decode_results(content(**changes), "a.json")
    assert len(str(error.value)) < 500


def test_half_a_character_is_refused_with_its_place():
    whole = content(video={"name": "\ud800bcdefgh.mp4"})
    assert b"\\ud800" in whole
    with pytest.raises(InputError, match=r"a\.json: not JSON \(.*byte \d+"):
        decode_results(whole, "a.json")


def test_frames_of_another_size_than_any_of_the_video_are_refused(tmp_path):
    files = write_flight(tmp_path, [House(0, 30)], frames=3)
    found = read_results(files.results)
    side = 4 * max(found.video.width, found.video.height)
    for width, fits in ((side, True), (side + 1, False)):
        frame = replace(found.frames[0], width=width, height=16)
        write_results(files.results, replace(found, frames=[frame, *found.frames[1:]]))
        if fits:
            open_video(files.video, files.results, None, order=0)
        else:
            with pytest.raises(InputError, match=rf"Frame 0 has {width} x 16 pixels"):
                open_video(files.video, files.results, None, order=0)
