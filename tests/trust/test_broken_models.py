"""Models that cannot see must not say that there is no damage."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from msnet_d2.checkpoint.checkpointer import MSNetCheckpointer
from msnet_d2.engine import evaluate
from msnet_d2.errors import MSNetError, WeightsError
from msnet_d2.inference.images import ImageFile, predict_images
from msnet_d2.inference.predictor import Predictor

PICTURE = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)


@pytest.fixture
def model_file(tiny_cfg, tmp_path):
    """Weights of a tiny model, changed before they are saved."""
    tiny_cfg.MODEL.WEIGHTS = ""
    torch.manual_seed(0)  # features so small that nothing overflows are as possible as others
    model = Predictor(tiny_cfg, allow_random_weights=True).model

    def save(name, change):
        state = {k: v.clone() for k, v in model.state_dict().items()}
        change(state[name])
        path = tmp_path / "weights.pth"
        torch.save({"model": state}, path)
        tiny_cfg.MODEL.WEIGHTS = str(path)
        return tiny_cfg

    return save


CONV = "backbone.bottom_up.stem.conv1.weight"
SCORE = "roi_heads.box_predictor.cls_score.weight"


@pytest.mark.parametrize("name", [CONV, SCORE, "backbone.bottom_up.stem.conv1.norm.running_var"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_do_not_load(model_file, name, value):
    cfg = model_file(name, lambda tensor: tensor.view(-1)[:1].fill_(value))
    with pytest.raises(WeightsError, match=rf"{name} holds numbers that are not finite"):
        Predictor(cfg)


# Finite, but what is computed with them is not.
@pytest.mark.parametrize(
    ("name", "part"), [(CONV, "backbone"), (SCORE, "box_predictor")], ids=["backbone", "scores"]
)
def test_numbers_that_overflow_are_an_error_at_the_frame(
    model_file, name, part, data_folder, tmp_path
):
    cfg = model_file(name, lambda tensor: tensor.mul_(0).add_(3e38))
    predictor = Predictor(cfg)
    with pytest.raises(WeightsError, match=rf"{part}.* not finite"):
        predictor(PICTURE)

    picture = next((data_folder / "val").glob("*.png"))
    with pytest.raises(WeightsError, match=rf"{picture.name}: .*not finite"):
        predict_images(predictor, [ImageFile(picture, picture.name)], tmp_path / "out")

    cfg.DATASETS.TEST = (f"{data_folder}:val",)
    cfg.OUTPUT_DIR = str(tmp_path / "run")
    with pytest.raises(MSNetError, match="not finite"):
        evaluate(cfg)


def test_a_pixel_that_is_no_number_is_an_error(model_file):
    predictor = Predictor(model_file(CONV, lambda tensor: None))
    image = torch.zeros(3, 96, 128)
    image[0, 40, 50] = math.nan
    with pytest.raises(WeightsError, match="not finite"), torch.no_grad():
        predictor.model([{"image": image, "height": 96, "width": 128}])
    # Through the predictor it cannot come in at all.
    with pytest.raises(MSNetError, match="uint8"):
        predictor(PICTURE.astype(np.float32) * math.nan)


def test_a_sound_model_is_not_disturbed(model_file):
    predictor = Predictor(model_file(CONV, lambda tensor: None))
    assert len(predictor(PICTURE)["instances"]) >= 0
    predictor.model.train()  # training has its own checks
    state = predictor.model.state_dict()
    assert MSNetCheckpointer(predictor.model).load(predictor.cfg.MODEL.WEIGHTS) is not None
    assert state.keys() == predictor.model.state_dict().keys()


def test_the_frame_of_a_video_is_named(model_file, tmp_path):
    pytest.importorskip("av")
    from PIL import Image

    from msnet_d2.video.detections import StreamDetector
    from msnet_d2.video.pipeline import process_video
    from msnet_d2.video.reader import VideoReader

    (tmp_path / "frames").mkdir()
    for number in range(2):
        Image.fromarray(PICTURE).save(tmp_path / "frames" / f"{number}.png")
    predictor = Predictor(model_file(CONV, lambda tensor: tensor.mul_(0).add_(3e38)))
    with (
        VideoReader(tmp_path / "frames") as reader,
        pytest.raises(WeightsError, match=r"frame 0 of frames: .*not finite"),
    ):
        process_video(
            reader,
            StreamDetector(predictor),
            metadata=predictor.metadata,
            results=tmp_path / "found.json",
        )
    assert not (tmp_path / "found.json").exists()
