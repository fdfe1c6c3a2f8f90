"""Detection in chunks: joined they are one pass's results byte by byte."""

from __future__ import annotations

import json

import numpy as np
import pytest

from msnet_d2.errors import InputError
from msnet_d2.video.detector import VideoDetector
from msnet_d2.video.distributed.chunks import (
    RUNNING_MEAN_FRAMES,
    Chunk,
    detect_chunk,
    frames_of_overlap,
    join_chunks,
    plan_chunks,
)
from msnet_d2.video.results import (
    Category,
    FrameResults,
    ModelInfo,
    PartDetection,
    ResultsHeader,
    ResultsSummary,
    SourceInfo,
    decode_results,
)
from msnet_d2.video.results_writer import write_results

pytest.importorskip("av")


def test_chunks_join_to_the_bytes_of_one_pass(settings, clip, one_pass, tmp_path):
    whole = one_pass(clip.video)
    chunks = plan_chunks(clip.video, VideoDetector(settings), 1.0)
    # 4 frames a second: 4 a chunk, and at least twice the overlap of MAX_GAP frames.
    assert [(c.first, c.end, c.overlap) for c in chunks] == [
        (0, 4, 2),
        (4, 8, 2),
        (8, 12, 2),
        (12, None, 2),
    ]
    # In any order.
    pieces = {
        c: decode_results(detect_chunk(settings, str(clip.video), c), "chunk")
        for c in reversed(chunks)
    }
    joined = join_chunks([pieces[c] for c in chunks], chunks)
    write_results(tmp_path / "joined.json", joined)
    joined = (tmp_path / "joined.json").read_bytes()
    assert joined == whole
    tracks = [i["track_id"] for f in json.loads(joined)["frames"] for i in f["instances"]]
    assert max(tracks) > 4  # tracks begin after the first chunk too


def test_scores_that_are_carried_on_need_a_longer_overlap_which_ends_their_memory(settings):
    from dataclasses import replace

    config = settings.config.replace("RUNNING_MEAN: false", "RUNNING_MEAN: true")
    carrying = replace(settings, config=config)
    every_third = replace(carrying, stride=3)
    assert frames_of_overlap(VideoDetector(settings)) == 2
    assert frames_of_overlap(VideoDetector(carrying)) == 2 + RUNNING_MEAN_FRAMES
    by_place = settings.config.replace("RULE: appearance", "RULE: geometry")
    by_place = VideoDetector(replace(settings, config=by_place))
    assert frames_of_overlap(by_place) == 2 + RUNNING_MEAN_FRAMES
    assert frames_of_overlap(VideoDetector(every_third)) == 2 + 3 * RUNNING_MEAN_FRAMES
    # The refiner's running mean from two starts, 0.2 and 0.7, over the same frames.
    own = np.random.default_rng(0).uniform(0.2, 0.7, (RUNNING_MEAN_FRAMES, 1000)).astype(np.float32)
    one, other = np.full((2, 1000), [[0.2], [0.7]], np.float32)
    for scores in own:
        one, other = (scores + one) / 2, (scores + other) / 2
    assert (one == other).all()


def test_a_short_video_is_one_chunk(settings, clip):
    assert plan_chunks(clip.video, VideoDetector(settings), 60.0) == [Chunk(0, None, 0)]


def piece(frames):
    """A chunk's results; ``frames``: index -> track numbers of its detections."""
    header = ResultsHeader(
        format="msnet video results",
        version=1,
        video=SourceInfo(name="v.mp4", width=10, height=10, fps=1),
        model=ModelInfo(),
        categories=[Category(1, "Slight")],
    )
    entries = [
        FrameResults(
            index=index,
            time_s=float(index),
            instances=[PartDetection(1, (0, 0, 1, 1), 0.9, track_id=t) for t in tracks],
        )
        for index, tracks in frames.items()
    ]
    return header.with_frames(entries, ResultsSummary())


def test_track_numbers_go_on_over_chunks():
    # One pass: frame 0 has tracks 0 and 1; frame 1 goes on with 1 and begins 2; frame 2 goes on
    # with 2 and begins 3. The second chunk begins at frame 2 and sees frame 1 first, whose
    # detections it calls 0 and 1; what begins in it is 2 to it, and 3 in one pass.
    first, second = piece({0: [0, 1], 1: [1, 2]}), piece({1: [0, 1], 2: [1, 2]})
    joined = join_chunks([first, second], [Chunk(0, 2, 1), Chunk(2, None, 1)])
    assert [[i.track_id for i in f.instances] for f in joined.frames] == [[0, 1], [1, 2], [2, 3]]
    assert joined.summary.frames_processed == 3
    assert joined.summary.instances == {"Slight": 6}


def test_chunks_that_do_not_continue_each_other_are_refused():
    first, second = piece({0: [0], 1: [0, 1]}), piece({1: [0], 2: [0]})
    with pytest.raises(InputError, match="2 detections in one chunk and 1"):
        join_chunks([first, second], [Chunk(0, 2, 1), Chunk(2, None, 1)])
