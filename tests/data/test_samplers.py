"""The order in which frames of videos are tested, and on which rank."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from msnet_d2.data import VideoInferenceSampler


def share(records, world_size):
    return [
        list(VideoInferenceSampler(records, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]


def test_by_hand():
    # Video b (3 frames) goes to rank 0, video a (2) to rank 1; the picture then to rank 1, which
    # has fewer.
    records = [
        {"video_id": "a", "frame_index": 10},
        {"video_id": "b", "frame_index": 7},
        {},
        {"video_id": "b", "frame_index": 2},
        {"video_id": "a", "frame_index": 5},
        {"video_id": "b", "frame_index": 30},
    ]
    assert share(records, 1) == [[4, 0, 3, 1, 5, 2]]
    assert share(records, 2) == [[3, 1, 5], [4, 0, 2]]
    assert len(VideoInferenceSampler(records, rank=1, world_size=2)) == 3


def test_more_ranks_than_videos():
    assert share([{"video_id": "a", "frame_index": i} for i in (1, 0)], 3) == [[1, 0], [], []]
    assert share([], 2) == [[], []]


def test_a_video_named_like_a_picture_is_not_one():
    records = [{"video_id": 1, "frame_index": 0}, {}, {"video_id": 1, "frame_index": 1}]
    assert share(records, 2) == [[0, 2], [1]]


records = st.lists(
    st.fixed_dictionaries(
        {}, optional={"video_id": st.sampled_from("abcd"), "frame_index": st.integers(0, 30)}
    ),
    max_size=30,
)


@given(records, st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_every_image_once_and_videos_whole_and_in_order(records, world_size):
    shares = share(records, world_size)
    assert sorted(i for one in shares for i in one) == list(range(len(records)))
    for video in "abcd":
        frames = [i for i, r in enumerate(records) if r.get("video_id") == video]
        ranks = {rank for rank, one in enumerate(shares) if set(one) & set(frames)}
        assert len(ranks) <= 1
        for rank in ranks:
            places = [n for n, i in enumerate(shares[rank]) if i in frames]
            assert places == list(range(places[0], places[0] + len(frames)))
            numbers = [records[shares[rank][n]].get("frame_index") or 0 for n in places]
            assert numbers == sorted(numbers)
