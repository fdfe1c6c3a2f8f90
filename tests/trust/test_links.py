"""Links in a stranger's folder: those that lead out of it are named, and never followed."""

from __future__ import annotations

import pytest
from PIL import Image

from msnet_d2.damage_map.videos import find_videos
from msnet_d2.data.loading.frame_sources import find_frame_sources
from msnet_d2.errors import DatasetError, InputError, VideoError
from msnet_d2.video.reader import VideoReader


@pytest.fixture
def given(tmp_path):
    """A folder of a stranger, beside a picture and a video of the user's own."""
    (tmp_path / "own").mkdir()
    Image.new("RGB", (10, 10), "red").save(tmp_path / "own" / "secret.png")
    (tmp_path / "own" / "secret.mp4").write_bytes(b"a video")
    folder = tmp_path / "given"
    folder.mkdir()
    return folder


def test_pictures_of_a_folder_of_frames_that_lead_out_are_named_and_make_it_incomplete(given):
    Image.new("RGB", (10, 10)).save(given / "1.png")
    (given / "2.png").symlink_to("../own/secret.png")
    (given / "3.png").symlink_to("1.png")
    with VideoReader(given) as reader:
        assert [frame.image.max() for frame in reader] == [0, 0]  # 1 and 3, nothing red
    assert reader.report.problems() == [
        "1 pictures are links that lead out of the folder, and were not opened: 2.png"
    ]
    assert not reader.report.is_complete


def test_a_folder_of_nothing_but_links_says_so(given):
    (given / "2.png").symlink_to("../own/secret.png")
    with pytest.raises(VideoError, match="holds no pictures .*; 1 are links out of it"):
        VideoReader(given)


def test_videos_of_a_folder_that_lead_out_are_named_and_left_out_of_a_map(given):
    (given / "a.mp4").write_bytes(b"a video")
    (given / "b.mp4").symlink_to("../own/secret.mp4")
    (given / "c.mp4").symlink_to("a.mp4")
    videos, left_out = find_videos([given])
    assert [video.name for video in videos] == ["a.mp4", "c.mp4"]
    assert len(left_out) == 1
    assert left_out[0].startswith("b.mp4 is left out: it is a link")
    # Named itself, it is the user's own choice; in a folder that holds nothing else, an error.
    assert find_videos([given / "b.mp4"]) == ([given / "b.mp4"], [])
    (given / "c.mp4").unlink()
    (given / "a.mp4").unlink()
    with pytest.raises(InputError, match=r"no video to map; b\.mp4 is left out"):
        find_videos([given])


@pytest.mark.parametrize("name", ["secret.png", "secret.mp4"])
def test_training_on_a_folder_with_links_out_of_it_is_refused_by_name(given, name):
    link = given / f"2{name[-4:]}"
    link.symlink_to(f"../own/{name}")
    with pytest.raises(DatasetError, match=rf"{link.name} is a link that leads out"):
        find_frame_sources([str(given)])
