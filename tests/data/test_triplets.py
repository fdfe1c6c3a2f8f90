"""Triplets: the paper's ranges, reproducibility, and reading no more of a video than is needed."""

from __future__ import annotations

import pickle
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import transforms as T

from msnet_d2.config import get_msnet_cfg
from msnet_d2.data.loading.frame_sources import FrameSource, VideoFile, find_frame_sources
from msnet_d2.data.loading.triplets import TripletDataset, build_joint_loader, build_triplet_loader
from msnet_d2.errors import ConfigError, DatasetError, VideoError

CODECS = {".mp4": "libx264", ".mov": "libx264", ".mkv": "libx264", ".avi": "mpeg4"}
SIZE = (48, 64)  # height, width


def picture(number, size=SIZE):
    """A frame that says its number: one of 64 blocks is bright, and the brightness counts
    rounds."""
    frame = np.full((*size, 3), 30, np.uint8)
    rows, columns = size[0] // 8, size[1] // 8
    y, x = (number % 64) // 8 * rows, number % 8 * columns
    frame[y : y + rows, x : x + columns] = 130 if number < 64 else 230
    return frame


def number_of(frame):
    gray = frame.astype(float).mean(axis=2)
    rows, columns = gray.shape[0] // 8, gray.shape[1] // 8
    blocks = gray[: rows * 8, : columns * 8].reshape(8, rows, 8, columns).mean(axis=(1, 3))
    return int(blocks.argmax()) + (64 if blocks.max() > 180 else 0)


def write_video(path, frames, fps=5, gop=10, size=SIZE, b_frames=0):
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            CODECS[path.suffix], rate=Fraction(fps).limit_denominator(1001)
        )
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.gop_size = gop
        stream.codec_context.max_b_frames = b_frames
        if stream.codec_context.name == "libx264":
            stream.options = {"sc_threshold": "0", "crf": "10"}
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number, size), format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_frames(folder, numbers):
    folder.mkdir(parents=True)
    for number in numbers:
        cv2.imwrite(str(folder / f"frame_{number}.png"), picture(number))
    return folder


class Numbers(FrameSource):
    """A source without pictures."""

    def __init__(self, frames, fps, step=1, name="video"):
        super().__init__(name, fps, np.arange(frames) * step)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "flight.mp4", 100, fps=5, b_frames=2)


class TestRanges:
    @pytest.mark.parametrize(
        ("fps", "frames", "step"),
        [
            (30, 400, 1),
            (29.97, 700, 1),
            (2, 25, 1),  # 0.5 r = 1: only the next frame
            (30, 60, 10),  # every tenth frame kept
        ],
    )
    def test_the_papers_ranges(self, fps, frames, step):
        source = Numbers(frames, fps, step)
        dataset = TripletDataset([source], num_pairs=300)
        offsets = set()
        for i in range(len(dataset)):
            triplet = dataset.triplet(i)
            t = source.numbers[triplet.anchor]
            offset = source.numbers[triplet.positive] - t
            offsets.add(int(offset))
            assert 0 < abs(offset) <= 0.5 * fps
            assert len(triplet.negatives) == 5
            for negative in triplet.negatives:
                assert abs(source.numbers[negative] - t) >= 10 * fps
        assert min(offsets) < 0 < max(offsets)

    def test_the_ends_of_the_ranges_occur(self):
        # At 4 frames a second X⁺ is 1 or 2 frames away, X⁻ 40 or more; frame 0 of 41 has only frame
        # 40.
        source = Numbers(41, 4)
        dataset = TripletDataset([source], num_pairs=100)
        pairs = {(t.anchor, t.positive, t.negatives) for t in map(dataset.triplet, range(100))}
        assert pairs == {
            (0, 1, (40,) * 5),
            (0, 2, (40,) * 5),
            (40, 39, (0,) * 5),
            (40, 38, (0,) * 5),
        }

    def test_negatives_of_a_pair_differ_where_there_are_enough(self):
        dataset = TripletDataset([Numbers(400, 10)], num_pairs=50)
        assert all(len(set(dataset.triplet(i).negatives)) == 5 for i in range(50))

    def test_an_anchor_without_a_negative_is_not_drawn(self):
        # 15 s: the frames from second 5 to 10 have none ten seconds away.
        dataset = TripletDataset([Numbers(150, 10)], num_pairs=200)
        anchors = {dataset.triplet(i).anchor for i in range(200)}
        assert all(a < 50 or a >= 100 for a in anchors)

    def test_videos_share_the_pairs_by_length(self):
        # Both are long enough that nearly all frames can be anchors: shares of 1 : 3.
        dataset = TripletDataset([Numbers(1000, 10), Numbers(3000, 10)], num_pairs=1000)
        share = sum(dataset.triplet(i).source for i in range(1000)) / 1000
        assert share == pytest.approx(0.75, abs=0.05)

    def test_each_video_at_its_own_rate(self):
        dataset = TripletDataset([Numbers(400, 5), Numbers(2000, 50)], num_pairs=200)
        for i in range(200):
            t = dataset.triplet(i)
            assert abs(t.positive - t.anchor) <= (2 if t.source == 0 else 25)

    def test_too_short(self):
        # 10 s at 30 a second: the first and the last frame are 299 apart.
        with pytest.raises(
            DatasetError, match=r"video is too short.*300 frames.*need 301 \(10\.0 s\)"
        ):
            TripletDataset([Numbers(300, 30)])
        TripletDataset([Numbers(301, 30)])

    def test_too_few_frames_a_second(self):
        with pytest.raises(DatasetError, match=r"no frame of video has another within 0\.5 s"):
            TripletDataset([Numbers(100, 1)])

    @pytest.mark.parametrize(
        "changes", [{"num_pairs": 0}, {"num_negatives": 0}, {"patch_size": -1}]
    )
    def test_arguments(self, changes):
        with pytest.raises(ConfigError, match="MODEL.SRN.NUM_PAIRS"):
            TripletDataset([Numbers(400, 10)], **changes)

    def test_no_source(self):
        with pytest.raises(DatasetError, match="there are none"):
            TripletDataset([])


class TestReproducible:
    def draw(self, **changes):
        dataset = TripletDataset([Numbers(400, 10), Numbers(500, 20)], num_pairs=20, **changes)
        return [dataset.triplet(i) for i in range(20)]

    def test_the_seed_decides(self):
        assert self.draw(seed=3) == self.draw(seed=3)
        assert self.draw(seed=3) != self.draw(seed=4)

    def test_pairs_differ(self):
        assert len(set(self.draw())) == 20

    def test_out_of_range(self):
        dataset = TripletDataset([Numbers(400, 10)], num_pairs=2)
        with pytest.raises(IndexError, match="there are 2 pairs"):
            dataset[2]

    def test_workers_read_the_same_as_the_main_process(self, video):
        dataset = TripletDataset([VideoFile(video)], num_pairs=4)
        loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=2)
        for item, expected in zip(loader, [dataset[i] for i in range(4)]):
            assert item["frames"] == expected["frames"]
            assert torch.equal(item["triplet"], expected["triplet"])


class TestVideo:
    @pytest.mark.parametrize("suffix", sorted(CODECS))
    @pytest.mark.parametrize("b_frames", [0, 2])
    def test_random_access_gives_the_frame_asked_for(self, tmp_path, suffix, b_frames):
        path = write_video(tmp_path / f"flight{suffix}", 70, gop=12, b_frames=b_frames)
        source = VideoFile(path)
        assert len(source) == 70
        assert source.fps == 5
        for position in (0, 69, 35, 11, 12, 13, 3):
            (frame,) = source.read([position])
            assert frame.shape == (*SIZE, 3)
            assert number_of(frame) == position

    def test_several_at_once_in_any_order_and_twice(self, video):
        numbers = [77, 3, 50, 3, 99, 0, 51]
        assert [number_of(frame) for frame in VideoFile(video).read(numbers)] == numbers

    def test_only_the_group_of_pictures_is_decoded(self, video):
        source = VideoFile(video)  # 100 frames, groups of 10
        source.read([95])
        assert source.frames_decoded <= 10
        source.frames_decoded = 0
        source.read([42, 45, 48])  # one group, decoded once
        assert source.frames_decoded <= 10

    def test_colors_are_bgr(self, tmp_path):
        av = pytest.importorskip("av")
        path = tmp_path / "blue.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=5)
            stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
            blue = np.zeros((*SIZE, 3), np.uint8)
            blue[..., 0] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(blue, format="bgr24")))
            container.mux(stream.encode())
        b, g, r = VideoFile(path).read([0])[0].mean(axis=(0, 1))
        assert b > 200
        assert max(g, r) < 60

    def test_no_handle_is_kept(self, video):
        source = VideoFile(video)
        source.read([5])
        assert number_of(pickle.loads(pickle.dumps(source)).read([7])[0]) == 7

    def test_a_truncated_file_gives_what_it_has(self, tmp_path, video):
        mkv = write_video(tmp_path / "whole.mkv", 100)
        cut = tmp_path / "cut.mkv"
        cut.write_bytes(mkv.read_bytes()[: mkv.stat().st_size // 2])
        source = VideoFile(cut)
        assert 10 < len(source) < 100
        assert number_of(source.read([8])[0]) == 8
        broken = tmp_path / "cut.mp4"  # an mp4 without its index is unreadable
        broken.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
        with pytest.raises(VideoError, match=r"cut\.mp4 cannot be opened"):
            VideoFile(broken)

    def test_not_a_video(self, tmp_path):
        path = tmp_path / "notes.mp4"
        path.write_text("not a video")
        with pytest.raises(VideoError, match=r"notes\.mp4 cannot be opened as a video"):
            VideoFile(path)
        empty = tmp_path / "empty.avi"
        empty.touch()
        with pytest.raises(VideoError, match="empty.avi"):
            VideoFile(empty)


class TestFinding:
    def test_a_file_and_a_folder_of_files(self, tmp_path, video):
        (tmp_path / "b.mp4").write_bytes(video.read_bytes())
        (tmp_path / "a.MP4").write_bytes(video.read_bytes())
        (tmp_path / "a.srt").touch()
        assert [s.name for s in find_frame_sources([str(video)])] == [str(video)]
        names = [s.name for s in find_frame_sources([str(tmp_path)])]
        assert names == [str(tmp_path / "a.MP4"), str(tmp_path / "b.mp4")]

    def test_the_videos_of_a_data_set_folder(self, tmp_path, video):
        (tmp_path / "annotations").mkdir()
        (tmp_path / "videos").mkdir()
        (tmp_path / "videos" / "x.mp4").write_bytes(video.read_bytes())
        assert [s.name for s in find_frame_sources([str(tmp_path)])] == [
            str(tmp_path / "videos" / "x.mp4")
        ]

    def test_a_folder_of_frames_in_the_order_of_their_numbers(self, tmp_path):
        folder = write_frames(tmp_path / "flight", [1, 2, 10, 9])
        (source,) = find_frame_sources([str(folder)], frame_rate=4)
        assert source.fps == 4
        assert [number_of(frame) for frame in source.read([0, 1, 2, 3])] == [1, 2, 9, 10]

    def test_a_folder_of_folders(self, tmp_path):
        for name in ("flight10", "flight2"):
            write_frames(tmp_path / name, range(3))
        (tmp_path / "empty").mkdir()
        sources = find_frame_sources([str(tmp_path)])
        assert [s.name for s in sources] == [str(tmp_path / "flight2"), str(tmp_path / "flight10")]

    def test_a_data_set_by_its_videos(self, tmp_path):
        import json

        folder = tmp_path / "train"
        folder.mkdir()
        images = []
        for n, (video_id, number) in enumerate([(1, 30), (2, 0), (1, 0), (1, 10), (2, 10)]):
            cv2.imwrite(str(folder / f"{video_id}_{number}.png"), picture(number))
            images.append(
                {
                    "id": n + 1,
                    "file_name": f"{video_id}_{number}.png",
                    "height": 48,
                    "width": 64,
                    "fps": 30.0,
                }
            )
        (tmp_path / "annotations").mkdir()
        categories = [{"id": i, "name": str(i)} for i in (1, 2, 3)]
        content = {"images": images, "annotations": [], "categories": categories}
        (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(content))
        first, second = find_frame_sources([f"{tmp_path}:train"])
        assert first.numbers.tolist() == [0, 10, 30]
        assert second.numbers.tolist() == [0, 10]
        assert first.fps == 30
        assert [number_of(frame) for frame in first.read([2, 1])] == [30, 10]

    def test_nothing_there(self, tmp_path):
        with pytest.raises(DatasetError, match="SRN_VIDEOS is empty"):
            find_frame_sources([])
        with pytest.raises(DatasetError, match="neither videos"):
            find_frame_sources([str(tmp_path)])
        with pytest.raises(DatasetError, match=r"missing\.mp4, but there is no such file"):
            find_frame_sources([str(tmp_path / "missing.mp4")])
        with pytest.raises(DatasetError, match="there is no data set"):
            find_frame_sources([str(tmp_path / "missing")])

    def test_a_picture_that_is_none(self, tmp_path):
        folder = write_frames(tmp_path / "flight", [0])
        (folder / "frame_1.png").write_text("no picture")
        (source,) = find_frame_sources([str(folder)])
        with pytest.raises(DatasetError, match=r"frame_1\.png cannot be read"):
            source.read([1])


class TestItems:
    def test_what_an_item_is(self, video):
        dataset = TripletDataset([VideoFile(video)], num_pairs=3, num_negatives=2)
        item = dataset[1]
        assert item["triplet"].shape == (4, 3, *SIZE)
        assert item["triplet"].dtype == torch.uint8
        assert item["file_name"] == str(video)
        triplet = dataset.triplet(1)
        assert item["frames"] == [triplet.anchor, triplet.positive, *triplet.negatives]
        shown = [number_of(frame.permute(1, 2, 0).numpy()) for frame in item["triplet"]]
        assert shown == item["frames"]

    def test_rgb(self, tmp_path):
        folder = tmp_path / "flight"
        folder.mkdir()
        blue = np.zeros((8, 8, 3), np.uint8)
        blue[..., 0] = 200
        for i in range(45):
            cv2.imwrite(str(folder / f"{i}.png"), blue)
        sources = find_frame_sources([str(folder)], frame_rate=4)
        for image_format, channel in (("BGR", 0), ("RGB", 2)):
            item = TripletDataset(sources, image_format=image_format)[0]["triplet"]
            assert item[:, channel].eq(200).all()
            assert item.float().mean() == pytest.approx(200 / 3)

    def test_a_patch_is_cut_at_one_place_of_all_frames(self, tmp_path):
        folder = tmp_path / "flight"
        folder.mkdir()
        ramp = np.zeros((*SIZE, 3), np.uint8)
        ramp[..., 0], ramp[..., 1] = np.arange(64), np.arange(48)[:, None]
        for i in range(45):
            cv2.imwrite(str(folder / f"{i}.png"), ramp)
        sources = find_frame_sources([str(folder)], frame_rate=4)
        dataset = TripletDataset(sources, patch_size=16, num_pairs=40)
        corners = set()
        for i in range(40):
            patches = dataset[i]["triplet"]
            assert patches.shape == (7, 3, 16, 16)
            assert (patches == patches[:1]).all()
            corners.add((int(patches[0, 0, 0, 0]), int(patches[0, 1, 0, 0])))
        assert len(corners) > 30
        assert all(x <= 48 and y <= 32 for x, y in corners)

    @pytest.mark.parametrize("align", [False, True])
    def test_the_positive_patch_follows_the_ground(self, tmp_path, align):
        # The camera moves 2 pixels a frame over a noisy ground, so 2 or 4 to X⁺: the same piece of
        # ground lies that far from the same place, and is inside the frame for most anchors.
        folder = tmp_path / "flight"
        folder.mkdir()
        ground = np.random.default_rng(0).integers(0, 255, (48, 64 + 90, 3), dtype=np.uint8)
        for i in range(45):
            cv2.imwrite(str(folder / f"{i}.png"), ground[:, 2 * i : 2 * i + 64])
        sources = find_frame_sources([str(folder)], frame_rate=4)
        dataset = TripletDataset(sources, patch_size=16, num_pairs=20, align_patches=align)
        same = [
            bool((d["triplet"][1] == d["triplet"][0]).all())
            for d in (dataset[i] for i in range(20))
        ]
        assert sum(same) > 14 if align else not any(same)
        plain = TripletDataset(sources, patch_size=16, num_pairs=20)
        others = [0, 2, 3, 4, 5, 6]
        assert torch.equal(dataset[3]["triplet"][others], plain[3]["triplet"][others])

    def test_aligned_patches_of_a_frame_without_texture(self, tmp_path):
        folder = tmp_path / "flight"
        folder.mkdir()
        for i in range(45):
            cv2.imwrite(str(folder / f"{i}.png"), np.full((48, 64, 3), 90, np.uint8))
        sources = find_frame_sources([str(folder)], frame_rate=4)
        dataset = TripletDataset(sources, patch_size=16, align_patches=True)
        assert dataset[0]["triplet"].shape == (7, 3, 16, 16)

    def test_a_patch_larger_than_the_frame_is_the_frame(self, video):
        dataset = TripletDataset([VideoFile(video)], patch_size=50, num_pairs=1)
        assert dataset[0]["triplet"].shape[-2:] == (48, 50)

    def test_resize_comes_first(self, video):
        dataset = TripletDataset(
            [VideoFile(video)], patch_size=40, resize=T.ResizeShortestEdge(96, 200), num_pairs=1
        )
        assert dataset[0]["triplet"].shape[-2:] == (40, 40)
        whole = TripletDataset([VideoFile(video)], resize=T.ResizeShortestEdge(96, 200))[0]
        assert whole["triplet"].shape[-2:] == (96, 128)

    def test_frames_of_unequal_size(self, tmp_path):
        folder = tmp_path / "flight"
        folder.mkdir()
        for i in range(45):
            cv2.imwrite(str(folder / f"{i}.png"), picture(0, (48, 64 if i < 22 else 72)))
        dataset = TripletDataset(find_frame_sources([str(folder)], frame_rate=4))
        with pytest.raises(DatasetError, match=r"flight have \[\(64, 48\), \(72, 48\)\]"):
            dataset[0]


class TestLoaders:
    def cfg(self, video, **opts):
        cfg = get_msnet_cfg()
        cfg.DATASETS.SRN_VIDEOS = (str(video),)
        cfg.DATALOADER.NUM_WORKERS = 0
        cfg.SOLVER.IMS_PER_BATCH = 3
        cfg.INPUT.MIN_SIZE_TEST = 48
        cfg.SEED = 1
        cfg.MODEL.SRN.NUM_NEGATIVES = 1
        return cfg

    def test_from_config(self, video):
        cfg = self.cfg(video)
        cfg.MODEL.SRN.NUM_PAIRS = 7
        dataset = TripletDataset(cfg)
        assert len(dataset) == 7
        assert dataset[0]["triplet"].shape == (3, 3, *SIZE)

    def test_batches_without_end(self, video):
        cfg = self.cfg(video)
        cfg.MODEL.SRN.NUM_PAIRS = 4
        batches = iter(build_triplet_loader(cfg))
        seen = [tuple(item["frames"]) for _ in range(4) for item in next(batches)]
        assert len(seen) == 12
        assert len(set(seen[:4])) == 4  # an epoch has each pair once
        assert set(seen[4:8]) == set(seen[:4])

    def test_joint_batches(self, video):
        images = [[{"image": 1}, {"image": 2}], [{"image": 3}, {"image": 4}]]
        batches = list(build_joint_loader(self.cfg(video), images))
        assert [["triplet" in item for item in batch] for batch in batches] == [
            [False, False, True]
        ] * 2
