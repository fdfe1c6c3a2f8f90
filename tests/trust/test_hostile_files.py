"""Files that do not end, state more than they hold, or lead elsewhere: bounded, named, left out."""

from __future__ import annotations

import json
import os
import struct
import threading
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from msnet_d2.data.isbda.reading import read_and_validate
from msnet_d2.errors import InputError, VideoError
from msnet_d2.utils import file_io
from msnet_d2.utils.file_io import read_json_file, read_regular_file
from msnet_d2.utils.image_io import Limits, read_bgr

# --- files that are none, or do not end


def read_data(path):
    found = read_and_validate(path, path.parent)
    raise InputError(str(found.issues[0]))


def read_results(path):
    from msnet_d2.video.results import read_results

    read_results(path)


def read_evaluation(path):
    from msnet_d2.evaluation.results import read_parents

    read_parents(path, None)  # the file is opened before it is compared with anything


def read_camera(path):
    from msnet_d2.damage_map.geometry.camera import Camera

    Camera.from_file(path, 640, 360)


def read_control(path):
    from msnet_d2.damage_map.geometry.gcp import read_gcps

    read_gcps(path)


def read_log(path):
    from msnet_d2.damage_map.telemetry.telemetry import Telemetry

    Telemetry.read(path)


def read_elevation(path):
    from msnet_d2.damage_map.geometry.terrain import ElevationGrid

    ElevationGrid.read(path)


def read_video(path):
    from msnet_d2.video.reader import VideoReader

    VideoReader(path)


def read_config(path):
    from msnet_d2.config import load_config

    load_config(path)


def read_weights(path):
    from msnet_d2.utils.weight_files import fetch_weights

    fetch_weights(str(path))


READERS = [
    read_data, read_results, read_evaluation, read_camera, read_control, read_log,
    read_elevation, read_video, read_config, read_weights,
]  # fmt: skip


@pytest.mark.parametrize("kind", ["pipe", "device", "link to a device", "folder"])
@pytest.mark.parametrize("read", READERS)
def test_pipes_devices_and_folders_are_refused_by_every_reader(tmp_path, read, kind):
    from msnet_d2.errors import MSNetError

    path = tmp_path / "a.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = tmp_path.__class__("/dev/zero")
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    else:
        (path / "inside").mkdir(parents=True)
    errors = []

    def run():
        try:
            read(path)
        except MSNetError as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "it waits for ever"
    assert len(str(errors[0]).splitlines()) == 1


def test_a_file_over_its_limit_is_not_read(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x" * 101)
    with pytest.raises(InputError, match="or more"):
        read_regular_file(path, 100)
    path.write_bytes(b"x" * 100)
    assert read_regular_file(path, 100) == b"x" * 100


# --- JSON


def test_json_is_counted_before_it_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr(file_io, "_MAX_CONTAINERS", 100)
    monkeypatch.setattr(file_io, "_MAX_VALUES", 300)
    path = tmp_path / "a.json"
    path.write_text(json.dumps([[1, 2]] * 99))  # 100 lists, 99 + 98 commas
    assert len(read_json_file(path)) == 99
    for content in ([[]] * 100, [{}] * 100, [0] * 302):
        path.write_text(json.dumps(content))
        with pytest.raises(InputError, match="holds more than"):
            read_json_file(path)


@pytest.mark.parametrize("content", [b"[" * 5000, b"\xff\xfe{", b"{", b"[1e", b'"\xc3', b""])
def test_what_is_no_json_is_said_in_one_line(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not JSON") as error:
        read_json_file(path)
    assert len(str(error.value).splitlines()) == 1


def test_more_categories_than_anybody_has_are_refused(tmp_path):
    path = tmp_path / "a.json"
    categories = [{"id": k, "name": f"c{k}"} for k in range(20_000)]
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": categories}))
    kinds = [issue.message for issue in read_and_validate(path, tmp_path).issues]
    assert "20000 categories; 2000 are the most" in kinds


# --- pictures


def tiled(path, side):
    """A picture of 10 x 10 pixels that states tiles of ``side``."""
    entries = [(256, 10), (257, 10), (258, 8), (259, 1), (262, 1), (277, 1), (322, side)]
    entries += [(323, side), (324, 8), (325, 100)]
    rows = b"".join(struct.pack("<2H2I", number, 4, 1, value) for number, value in entries)
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    path.write_bytes(head + rows + bytes(4))


def test_a_small_picture_of_a_huge_tile_is_refused(tmp_path):
    tiled(tmp_path / "a.tif", 20_000)
    with pytest.raises(ValueError, match="tiles of 20000x20000 pixels, over the limit"):
        read_bgr(tmp_path / "a.tif", Limits(max_pixels=1 << 26))


def test_whatever_pillow_raises_over_malformed_tags_is_a_damaged_picture(tmp_path, monkeypatch):
    from PIL import ImageOps

    def fail(image, in_place):
        raise TypeError("'bytes' object cannot be interpreted as an integer")

    monkeypatch.setattr(ImageOps, "exif_transpose", fail)
    Image.new("RGB", (10, 10)).save(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="it is damaged .TypeError"):
        read_bgr(tmp_path / "a.jpg")


def test_links_that_lead_out_of_a_folder_are_named_and_not_followed(tmp_path):
    from msnet_d2.damage_map.telemetry.telemetry import find_telemetry
    from msnet_d2.inference.images import find_images
    from msnet_d2.video.reader import VideoReader

    (tmp_path / "own").mkdir()
    Image.new("RGB", (10, 10), "red").save(tmp_path / "own" / "secret.png")
    (tmp_path / "own" / "secret.txt").write_text("secret")
    given = tmp_path / "given"
    given.mkdir()
    Image.new("RGB", (10, 10)).save(given / "1.png")
    (given / "2.png").symlink_to(tmp_path / "own" / "secret.png")
    (given / "3.png").symlink_to("1.png")
    (given / "clip.srt").symlink_to(tmp_path / "own" / "secret.txt")
    outside = {image.name: image.outside for image in find_images([given])}
    assert outside == {"1.png": False, "2.png": True}  # 3 is 1
    with VideoReader(given) as reader:
        assert sum(1 for _ in reader) == 2
    assert find_telemetry(given / "clip.mp4") is None
    # Through a link to the folder itself, all is inside.
    (tmp_path / "link").symlink_to(given)
    assert {i.name for i in find_images([tmp_path / "link"]) if not i.outside} == {"1.png"}


# --- camera, control points, elevation


@pytest.mark.parametrize(
    "change",
    [
        {"fx": "800"},
        {"fx": True},
        {"fx": 1e-300},
        {"cx": 1e300},
        {"fy": float("nan")},
        {"distortion": [0.0] * 1000},
        {"distortion": "0000"},
        {"distortion": ["0"] * 4},
        {"width": "640"},
    ],
    ids=str,
)
def test_a_camera_file_holds_numbers_of_cameras(tmp_path, change):
    path = tmp_path / "camera.json"
    sound = {"fx": 800, "fy": 800, "cx": 320, "cy": 180}
    path.write_text(json.dumps(sound))
    read_camera(path)
    path.write_text(json.dumps(sound | change))
    with pytest.raises(InputError, match="not a camera file"):
        read_camera(path)


CONTROL = "x,y,frame,lat,lon,height\n"


@pytest.mark.parametrize(
    "row",
    [
        "1e300,1,0,48,11,0",
        "inf,1,0,48,11,0",
        "1,1,inf,48,11,0",
        "1,1,0,nan,11,0",
        "1,1,0,48,11,1e300",
    ],
)
def test_control_points_are_finite_and_of_this_world(tmp_path, row):
    path = tmp_path / "control.csv"
    path.write_text(f"{CONTROL}1,1,0,48,11,0\n{row}\n")
    with pytest.raises(InputError, match="line 3: "):
        read_control(path)


def test_as_many_control_points_as_nobody_measures_are_refused(tmp_path):
    path = tmp_path / "control.csv"
    path.write_text(CONTROL + "1,1,0,48,11,0\n" * 20_000)
    with pytest.raises(InputError, match="20000 control points; 1000 are the most"):
        read_control(path)


def test_a_message_over_a_table_of_many_columns_stays_short(tmp_path):
    path = tmp_path / "control.csv"
    path.write_text(",".join(f"column{k}" for k in range(300_000)))
    with pytest.raises(InputError) as error:
        read_control(path)
    assert len(str(error.value)) < 1000


def test_a_control_point_on_the_other_side_of_the_earth_is_refused():
    from msnet_d2.damage_map.geometry.camera import Camera
    from msnet_d2.damage_map.geometry.gcp import GroundControlPoint, calibrate_pose
    from msnet_d2.damage_map.telemetry.pose import TelemetrySample

    sample = TelemetrySample(0.0, 48.0, 11.0, alt=60.0, yaw=0.0, pitch=-60.0)
    camera = Camera.from_hfov(70, 640, 360)
    near = [GroundControlPoint(320, 180, 48.0003, 11.0, frame=0)]
    assert calibrate_pose(near, [sample], camera).fitted
    far = [*near, GroundControlPoint(300, 180, -48.0, -169.0, frame=0)]
    with pytest.raises(InputError, match=r"control point 2 at .* km from the camera"):
        calibrate_pose(far, [sample, sample], camera)


GRID = "ncols {}\nnrows {}\nxllcorner 11\nyllcorner 48\ncellsize 0.001\nNODATA_value -9999\n"


@pytest.mark.parametrize("cells", ["1 2 3 x", "1 2 3", "1 2 3 4 5", "", "1,2,3,4"])
def test_a_grid_of_other_words_or_numbers_than_stated_is_refused(tmp_path, cells):
    path = tmp_path / "a.asc"
    path.write_text(GRID.format(2, 2) + "1 2\n-9999 nan\n")
    from msnet_d2.damage_map.geometry.terrain import ElevationGrid

    np.testing.assert_array_equal(ElevationGrid.read(path).values, [[1, 2], [np.nan, np.nan]])
    path.write_text(GRID.format(2, 2) + cells)
    with pytest.raises(InputError, match="not an ESRI ASCII grid"):
        read_elevation(path)


# --- videos


@pytest.fixture(params=["1", "12"], ids=["key frames alone", "one key frame"])
def clip(tmp_path, request):
    """An mp4 of 10 frames."""
    av = pytest.importorskip("av")
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=10, options={"g": request.param})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(10):
            image = np.full((48, 64, 3), 20 * k, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = k, Fraction(1, 10)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def patch(path, kind, offset, *values):
    """Write 32-bit integers at ``offset`` of the content of the first box of a kind."""
    content = bytearray(path.read_bytes())
    place = content.index(kind) + 4 + offset
    content[place : place + 4 * len(values)] = struct.pack(f">{len(values)}I", *values)
    path.write_bytes(content)


def read_all(path):
    from msnet_d2.video.reader import VideoReader

    with VideoReader(path) as reader:
        return sum(1 for _ in reader), reader.report


def test_a_plain_clip_is_complete(clip):
    frames, report = read_all(clip)
    assert (frames, report.frames_hidden, report.is_complete) == (10, 0, True)


@pytest.mark.parametrize("shown", [1, 5])
def test_frames_that_an_edit_list_hides_are_lost_and_said(clip, shown):
    # elst: version and flags, number of edits, then duration (in milliseconds) and begin.
    patch(clip, b"elst", 8, 100 * shown)
    frames, report = read_all(clip)
    assert frames < 10
    assert report.frames_lost == 10 - frames
    assert not report.is_complete
    # The demuxer tells what it hides where later frames build on it.
    if report.frames_hidden:
        assert f"{10 - frames} of these are stored, but an edit list or time table hides them" in (
            " ".join(report.problems())
        )
    else:
        assert report.truncated


def test_frames_that_the_time_table_leaves_out_are_lost_and_said(clip):
    patch(clip, b"stts", 8, 3)  # stts: version and flags, number of runs, then count and duration
    frames, report = read_all(clip)
    assert (frames + report.frames_lost, report.is_complete) == (10, frames == 10)


@pytest.mark.parametrize(
    ("kind", "offset", "values"),
    [(b"stsz", 4, (1, 20_000_000)), (b"stts", 8, (20_000_000,)), (b"stsz", 8, (0xFFFFFFFF,))],
)
def test_an_mp4_that_states_more_frames_than_it_has_room_for_is_refused(clip, kind, offset, values):
    patch(clip, kind, offset, *values)
    with pytest.raises(VideoError, match=r"states [\d,]+ frames in [\d,]+ bytes"):
        read_all(clip)


def test_boxes_without_end_are_refused(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + b"\0\0\0\x08free" * 300_000)
    with pytest.raises(VideoError, match="more than 200,000 boxes"):
        read_all(path)
