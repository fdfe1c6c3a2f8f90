"""The predictor, its weights, and pictures of all kinds."""

import hashlib
import json
import math

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from PIL import Image

from msnet_d2.errors import ConfigError, InputError, WeightsError
from msnet_d2.inference.images import find_images, predict_images, read_image
from msnet_d2.inference.predictor import Predictor, metadata_for
from msnet_d2.utils.image_io import Limits


@pytest.fixture
def weights(tiny_cfg, tmp_path):
    """A checkpoint of ``tiny_cfg``'s model; tiny_cfg names it."""
    torch.manual_seed(3)
    # Of random weights, only few detections pass the threshold.
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    model = build_model(tiny_cfg)
    DetectionCheckpointer(model, str(tmp_path)).save("weights")
    tiny_cfg.MODEL.WEIGHTS = str(tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def change(path, edit):
    checkpoint = torch.load(path, weights_only=True)
    edit(checkpoint["model"])
    torch.save(checkpoint, path)


def picture(height=80, width=110, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("form", ["BGR", "RGB"])
def test_detects_what_detectron2s_predictor_detects(tiny_cfg, weights, form):
    tiny_cfg.INPUT.FORMAT = form
    ours = Predictor(tiny_cfg)
    theirs = DefaultPredictor(tiny_cfg)(picture())
    output = ours(picture())
    assert len(output["instances"]) > 0
    for field in ("pred_boxes", "scores", "pred_classes", "pred_masks"):
        one, other = (getattr(o["instances"], field) for o in (output, theirs))
        assert torch.equal(getattr(one, "tensor", one), getattr(other, "tensor", other))
    assert output["instances"].image_size == (80, 110)
    assert "parents" in output
    assert ours.weights_sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_pictures_of_several_sizes_at_once(tiny_cfg, weights):
    predictor = Predictor(tiny_cfg)
    images = [picture(80, 110), picture(64, 64, 1), picture(120, 90, 2)]
    outputs = predictor.predict_batch(images)
    assert [o["instances"].image_size for o in outputs] == [(80, 110), (64, 64), (120, 90)]
    assert predictor.predict_batch([]) == []


def test_extras_reach_the_model_but_not_over_the_picture(tiny_cfg, weights, monkeypatch):
    predictor = Predictor(tiny_cfg)
    seen = []
    monkeypatch.setattr(predictor, "model", lambda inputs: seen.extend(inputs) or inputs)
    predictor.predict_batch([picture()], [{"video_id": "v", "frame_index": 3, "height": 1}])
    assert (seen[0]["video_id"], seen[0]["frame_index"], seen[0]["height"]) == ("v", 3, 80)
    with pytest.raises(InputError, match="1 pictures, but 2 extras"):
        predictor.predict_batch([picture()], [{}, {}])


@pytest.mark.parametrize(
    "image",
    [
        picture().astype(np.float32),
        picture()[:, :, 0],
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((0, 10, 3), np.uint8),
        "photo.jpg",
        None,
    ],
)
def test_what_is_no_picture(tiny_cfg, weights, image):
    with pytest.raises(InputError, match="a picture is a uint8 array"):
        Predictor(tiny_cfg)(image)


def test_weights_must_be_there_and_fit(tiny_cfg, weights):
    tiny_cfg.MODEL.WEIGHTS = ""
    with pytest.raises(WeightsError, match="MODEL.WEIGHTS is empty"):
        Predictor(tiny_cfg)
    assert Predictor(tiny_cfg, allow_random_weights=True).weights_sha256 is None
    tiny_cfg.MODEL.WEIGHTS = str(weights.with_name("nowhere.pth"))
    with pytest.raises(WeightsError, match="nowhere.pth"):
        Predictor(tiny_cfg)

    tiny_cfg.MODEL.WEIGHTS = str(weights)
    change(weights, lambda state: state.pop("roi_heads.box_predictor.cls_score.weight"))
    with pytest.raises(WeightsError, match=r"lacks 1 of .*cls_score.weight \(missing\)"):
        Predictor(tiny_cfg)
    Predictor(tiny_cfg, allow_partial_weights=True)


def test_an_untrained_parent_head_is_no_whole_model(tiny_cfg, weights):
    # For training, a stock Mask R-CNN's RPN head stands in; to predict with, it would be wrong.
    def drop(state):
        for name in [name for name in state if "parent_rpn" in name]:
            del state[name]

    change(weights, drop)
    with pytest.raises(WeightsError, match="parent_rpn"):
        Predictor(tiny_cfg)
    Predictor(tiny_cfg, allow_partial_weights=True)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_no_numbers_are_refused(tiny_cfg, weights, value):
    def spoil(state):
        state["backbone.fpn_lateral2.weight"][0, 0, 0, 0] = value

    change(weights, spoil)
    with pytest.raises(WeightsError, match=r"fpn_lateral2\.weight holds numbers that are not"):
        Predictor(tiny_cfg)


def test_input_format_is_checked(tiny_cfg):
    tiny_cfg.INPUT.FORMAT = "YUV-BT.601"
    with pytest.raises(ConfigError, match=r"INPUT.FORMAT is 'YUV-BT.601'"):
        Predictor(tiny_cfg, allow_random_weights=True)


def test_names_of_the_levels(tiny_cfg):
    tiny_cfg.DATASETS.TEST = ("nowhere:val",)
    assert metadata_for(tiny_cfg).thing_classes == ["Slight", "Severe", "Debris"]
    assert len(metadata_for(tiny_cfg).thing_colors) == 3
    tiny_cfg.MODEL.ROI_HEADS.NUM_CLASSES = 4
    tiny_cfg.MODEL.ROI_HEADS.PARENT_CLASS = 3
    assert metadata_for(tiny_cfg).thing_classes == ["Slight", "Severe", "Debris"]
    tiny_cfg.MODEL.ROI_HEADS.PARENT_CLASS = -1
    tiny_cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    assert metadata_for(tiny_cfg).thing_classes == ["class 0", "class 1"]


def test_pictures_are_read_as_people_see_them(tmp_path):
    # Left half red, right half blue, stored turned by 90° as cameras do (EXIF orientation 6).
    upright = np.zeros((4, 6, 3), np.uint8)
    upright[:, :3, 0] = 255
    upright[:, 3:, 2] = 255
    stored = Image.fromarray(np.rot90(upright).copy())
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.save(tmp_path / "turned.png", exif=exif)
    assert (read_image(tmp_path / "turned.png") == upright[:, :, ::-1]).all()
    # 16 bits: 65535 is white, 32896 = 128 · 257.
    gray = np.array([[0, 32896, 65535]], np.uint16)
    Image.fromarray(gray).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match="16 bits a sample .*INPUT.DEPTH"):
        read_image(tmp_path / "deep.png")
    deep = read_image(tmp_path / "deep.png", depth="bits")
    assert deep[0].tolist() == [[0] * 3, [128] * 3, [255] * 3]
    # Dark pictures stay dark.
    Image.fromarray(np.array([[0, 257]], np.uint16)).save(tmp_path / "dark.png")
    assert read_image(tmp_path / "dark.png", depth="bits")[0].tolist() == [[0] * 3, [1] * 3]
    Image.new("RGBA", (3, 2), (1, 2, 3, 0)).save(tmp_path / "clear.png")
    assert read_image(tmp_path / "clear.png").tolist() == [[[3, 2, 1]] * 3] * 2
    Image.new("L", (3, 2), 7).save(tmp_path / "grey.png")
    assert read_image(tmp_path / "grey.png").shape == (2, 3, 3)
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)).save(tmp_path / "f.tif")
    assert read_image(tmp_path / "f.tif", depth="auto")[0, :, 0].tolist() == [0, 128, 255]


def test_pictures_that_are_none(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    cut = tmp_path / "cut.png"
    cut.write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    empty = tmp_path / "empty.jpg"
    empty.touch()
    nan = tmp_path / "nan.tif"
    Image.fromarray(np.array([[np.nan]], np.float32)).save(nan)
    for path in (cut, text, empty, nan, tmp_path):
        with pytest.raises(InputError) as caught:
            read_image(path)
        assert str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="110x80 pixels, over the limit of 8799"):
        read_image(tmp_path / "a.png", Limits(max_pixels=80 * 110 - 1))


def test_finds_pictures_once(tmp_path):
    for name in ("b/2.PNG", "b/1.jpg", "a.tif", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_images([tmp_path / "b", tmp_path / "b" / "1.jpg", tmp_path])
    assert [p.name for p in found] == ["1.jpg", "2.PNG", "a.tif"]
    # Results below the pictures are no pictures to look at, unless they are what was asked for.
    assert [p.name for p in find_images([tmp_path], leave_out=tmp_path / "b")] == ["a.tif"]
    assert len(find_images([tmp_path / "b"], leave_out=tmp_path / "b")) == 2
    # A file that was named is taken whatever it is called.
    assert [p.name for p in find_images([tmp_path / "b" / "notes.txt"])] == ["notes.txt"]
    with pytest.raises(InputError, match="there is no picture or folder .*c.jpg"):
        find_images([tmp_path / "c.jpg"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no picture"):
        find_images([tmp_path / "empty"])


def test_writes_drawings_and_one_json(tiny_cfg, weights, tmp_path):
    predictor = Predictor(tiny_cfg)
    for folder, name in (("a", "x.png"), ("a", "x.jpg"), ("b", "x.png"), ("b", "x_2.png")):
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.fromarray(picture()).save(tmp_path / folder / name)
    (tmp_path / "b" / "broken.png").write_text("no picture")
    out = tmp_path / "a"  # among the pictures themselves, which must not be overwritten
    before = (tmp_path / "a" / "x.jpg").read_bytes()
    pictures = find_images([tmp_path / "a", tmp_path / "b"])
    predict_images(predictor, pictures, out, min_score=0.0, about={"config": "c.yaml"})

    assert (tmp_path / "a" / "x.jpg").read_bytes() == before
    result = json.loads((out / "predictions.json").read_text())
    assert result["config"] == "c.yaml"
    assert result["weights_sha256"] == predictor.weights_sha256
    assert [image["file"] for image in result["images"]] == ["x.jpg", "x.png", "x.png", "x_2.png"]
    drawn = [image["drawn"] for image in result["images"]]
    assert len(set(drawn)) == 4
    for name in drawn:
        assert Image.open(out / name).size == (110, 80)
    assert [entry["file"] for entry in result["unreadable"]] == ["broken.png"]
    assert str(tmp_path) not in (out / "predictions.json").read_text()

    found = predictor(read_image(tmp_path / "a" / "x.png"))["instances"]
    # The first picture is a lossy JPEG, the second is x.png.
    instances = result["images"][1]["instances"]
    assert len(instances) == len(found) > 0
    scores = [entry["score"] for entry in instances]
    assert scores == sorted(scores, reverse=True)
    assert set(instances[0]) == {
        "level",
        "score",
        "bbox",
        "segmentation",
        "parent_bbox",
        "parent_score",
    }
    assert {entry["level"] for entry in instances} <= {"Slight", "Severe", "Debris"}
    x0, y0, x1, y1 = found.pred_boxes.tensor[found.scores.argmax()].tolist()
    assert instances[0]["bbox"] == pytest.approx([x0, y0, x1 - x0, y1 - y0], abs=1e-3)


def test_what_scores_too_little_is_left_out(tiny_cfg, weights, tmp_path):
    predictor = Predictor(tiny_cfg)
    Image.fromarray(picture()).save(tmp_path / "x.png")
    pictures = find_images([tmp_path / "x.png"])
    everything = predict_images(predictor, pictures, tmp_path / "all", min_score=0.0)
    scores = [entry["score"] for entry in everything["images"][0]["instances"]]
    middle = sorted(scores)[len(scores) // 2]
    half = predict_images(predictor, pictures, tmp_path / "half", min_score=middle)
    kept = [entry["score"] for entry in half["images"][0]["instances"]]
    assert kept == [score for score in scores if score >= middle]
    assert 0 < len(kept) < len(scores)
    assert all(p["score"] >= middle for p in half["images"][0]["parents"])
