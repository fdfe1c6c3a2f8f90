"""Losses by hand, tiles, learning by heart, and every command that takes a config."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import semantic_seg
import torch
from detectron2.modeling import build_model
from PIL import Image
from semantic_seg.losses import dice_loss, segmentation_loss
from semantic_seg.segmentor import tile_starts

from msnet_d2.cli import main
from msnet_d2.config import get_msnet_cfg

CONFIGS = Path(semantic_seg.__file__).resolve().parents[1] / "configs"


def net_cfg(name, *opts):
    return get_msnet_cfg(name, ["MODEL.DEVICE", "cpu", *opts])


# --- losses -----------------------------------------------------------------------------------


def test_dice_by_hand():
    # Probabilities of class 1: 0.8, 0.4; truth 1, 0; the third pixel is ignored.
    # Class 1: 1 - 2·0.8 / (1.2 + 1) = 3/11. Class 0: p 0.2, 0.6: 1 - 2·0.6 / (0.8 + 1) = 1/3.
    logits = torch.tensor([[0.2, 0.6, 0.5], [0.8, 0.4, 0.5]]).log().reshape(1, 2, 1, 3)
    targets = torch.tensor([[[1, 0, 255]]])
    assert dice_loss(logits, targets).item() == pytest.approx((3 / 11 + 1 / 3) / 2)
    # With class 1 alone in the truth, class 0 is left out: 1 - 2·0.8 / (0.8 + 1).
    assert dice_loss(logits[..., :1], targets[..., :1]).item() == pytest.approx(1 / 9)
    assert dice_loss(logits, torch.full_like(targets, 255)).item() == 0


def test_cross_entropy_and_its_sum_by_hand():
    logits = torch.tensor([[0.2, 0.6, 0.5], [0.8, 0.4, 0.5]]).log().reshape(1, 2, 1, 3)
    targets = torch.tensor([[[1, 0, 255]]])
    mean = -(math.log(0.8) + math.log(0.6)) / 2
    assert segmentation_loss("cross_entropy", logits, targets).item() == pytest.approx(mean)
    total = segmentation_loss("cross_entropy_sum", logits, targets)
    assert total.item() == pytest.approx(2 * mean)
    both = segmentation_loss("cross_entropy+dice", logits, targets).item()
    assert both == pytest.approx(mean + dice_loss(logits, targets).item())
    assert segmentation_loss("dice", logits, targets).item() == pytest.approx(both - mean)


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "cross_entropy+dice"])
def test_ignored_pixels_get_no_gradient_and_a_batch_of_them_is_no_nan(name):
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    targets = torch.tensor([[[0, 255], [1, 2]]])
    segmentation_loss(name, logits, targets).backward()
    assert not logits.grad[0, :, 0, 1].any()
    assert logits.grad[0, :, 0, 0].any()
    logits.grad = None
    loss = segmentation_loss(name, logits, torch.full_like(targets, 255))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


# --- tiles ------------------------------------------------------------------------------------


def test_tiles_cover_a_side_and_share_their_overlap():
    assert tile_starts(100, 100, 20) == [0]
    # They may begin 80 apart; on the grid of 32 that is 64.
    assert tile_starts(164, 100, 20) == [0, 64, 128]
    assert tile_starts(148, 100, 20) == [0, 64]
    for length in range(1, 700):
        starts = tile_starts(length, 100, 20)
        assert starts[-1] + 100 >= length > starts[-1]
        assert all(b - a <= 80 for a, b in itertools.pairwise(starts))


def test_a_picture_of_one_tile_is_seen_whole_and_a_larger_one_alike():
    torch.manual_seed(0)
    opts = ["MODEL.UNET.CHANNELS", [4, 4]]
    model = build_model(net_cfg("unet.yaml", *opts)).eval()
    image = torch.randint(0, 255, (3, 100, 150), dtype=torch.uint8)
    with torch.no_grad():
        whole = model([{"image": image}])[0]["sem_seg"]
        model.tile, model.overlap = 160, 32
        assert torch.equal(model([{"image": image}])[0]["sem_seg"], whole)
        model.tile = 96
        (found,) = model([{"image": image, "height": 50, "width": 75}])
        assert found["sem_seg"].shape == (2, 50, 75)
        tiled = model([{"image": image}])[0]["sem_seg"]
    # Only the borders of tiles have another context, and little weight.
    gap = (tiled.softmax(0) - whole.softmax(0)).abs()
    assert gap.mean() < 0.005
    assert gap.max() < 0.15
    # The first tile is alone up to 64 and sees there what is seen in the whole.
    assert gap[:, :50, :50].max() < 1e-5


# --- learning ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cfg", "steps"),
    [
        (
            lambda: net_cfg(
                "unet.yaml", "MODEL.UNET.CHANNELS", [8, 16, 16], "MODEL.UNET.NORM", "BN"
            ),
            80,
        ),
        (lambda: net_cfg("fcn_deconv.yaml"), 25),
    ],
    ids=["unet", "deconv"],
)
def test_four_pictures_are_learned_by_heart(cfg, steps):
    torch.manual_seed(0)
    config = cfg()
    model = build_model(config).train()
    batch = []
    for n in range(4):
        label = torch.zeros(64, 64, dtype=torch.int64)
        label[8 * n : 8 * n + 30, 10:50] = 1
        image = (60 + 130 * label[None].repeat(3, 1, 1)).to(torch.uint8)
        batch.append({"image": image, "sem_seg": label})
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(steps):
        loss = model(batch)["loss_sem_seg"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # Batch statistics, as learned: running ones lag behind so few steps.
    assert loss.item() < 0.15


def test_a_batch_whose_pixels_are_all_ignored_has_finite_gradients():
    model = build_model(net_cfg("fcn8s_vgg16.yaml", "MODEL.FCN.FC_DIM", 4)).train()
    given = {"image": torch.zeros(3, 32, 32, dtype=torch.uint8)}
    loss = model([{**given, "sem_seg": torch.full((32, 32), 255)}])["loss_sem_seg"]
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


# --- configs and commands ---------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("[a-z]*.yaml")), ids=lambda path: path.stem)
def test_every_config_builds(path):
    if path.parent.name == "quick":
        pytest.importorskip("timm")
    cfg = get_msnet_cfg(path, ["MODEL.DEVICE", "meta", "MODEL.TIMM.WEIGHTS", ""])
    with torch.device("meta"):
        model = build_model(cfg)
    assert type(model).__name__ == "TiledSegmentor"


@pytest.fixture
def flood(tmp_path):
    """A semantic data set: bright water over dark ground, 96×64."""
    folder = tmp_path / "flood"
    rng = np.random.default_rng(0)
    (folder / "annotations").mkdir(parents=True)
    for side, count in (("train", 3), ("val", 2)):
        for name in (side, f"semantic/{side}"):
            (folder / name).mkdir(parents=True)
        images = []
        for n in range(count):
            label = np.zeros((64, 96), np.uint8)
            label[20 + 5 * n :] = 1
            image = rng.integers(0, 40, (64, 96, 3), np.uint8) + 150 * label[..., None]
            Image.fromarray(image.astype(np.uint8)).save(folder / side / f"{n}.png")
            Image.fromarray(label).save(folder / "semantic" / side / f"{n}.png")
            entry = {"id": n + 1, "file_name": f"{n}.png", "sem_seg_file_name": f"{n}.png"}
            images.append({**entry, "width": 96, "height": 64})
        labels = [{"id": 0, "name": "dry"}, {"id": 1, "name": "flood"}]
        document = {"images": images, "labels": labels, "ignore_label": 255}
        (folder / "annotations" / f"semantic_{side}.json").write_text(json.dumps(document))
    return folder


def small(folder, out):
    opts = ["INPUT.MIN_SIZE_TRAIN", "(64,64)", "INPUT.MIN_SIZE_TEST", "64"]
    opts += ["MODEL.UNET.CHANNELS", "[8,8]", "MODEL.UNET.NORM", "BN", "MODEL.DEVICE", "cpu"]
    opts += ["SOLVER.MAX_ITER", "20", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.WARMUP_ITERS", "0"]
    opts += ["SOLVER.BASE_LR", "0.01", "DATALOADER.NUM_WORKERS", "0", "OUTPUT_DIR", str(out)]
    opts += [
        "DATASETS.TRAIN",
        f"semantic@{folder}:train",
        "DATASETS.TEST",
        f"semantic@{folder}:val",
    ]
    return opts


def test_a_trained_model_goes_through_every_command(flood, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", "--config-file", "unet.yaml", *small(flood, out)]) == 0
    metrics = json.loads((out / "inference" / "metrics.json").read_text())
    assert metrics["sem_seg"]["mIoU"] > 80
    # 39 of 64 rows are flood at a height of 25, 44 at 20: (39 + 44) / 128 of the pixels.
    assert metrics["sem_seg_baseline"]["pixel_acc"] == pytest.approx(100 * 83 / 128)
    assert (out / "inference" / "confusion.png").is_file()

    config = ["--config-file", str(out / "config.yaml")]
    found = tmp_path / "found"
    assert main(["predict", str(flood / "val"), *config, "--out", str(found)]) == 0
    assert "2 regions in 2 pictures" in capsys.readouterr().out
    entry = json.loads((found / "predictions.json").read_text())["images"][0]
    (region,) = entry["instances"]
    assert region["level"] == "flood"
    assert entry["labels"] == "labels/0.png"
    label = np.asarray(Image.open(found / entry["labels"]))
    assert label.shape == (64, 96)
    assert abs((label == 1).mean() - 44 / 64) < 0.1
    # What predict writes, eval scores: the figures after training, but for its faster kernels.
    line = ["eval", "--predictions", str(found / "labels"), "--dataset", f"semantic@{flood}:val"]
    assert main([*line, "--json", str(tmp_path / "again.json")]) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["sem_seg"]["mIoU"] == pytest.approx(metrics["sem_seg"]["mIoU"], abs=0.3)
    # A second run replaces its own files.
    assert main(["predict", str(flood / "val"), *config, "--out", str(found)]) == 0
    assert sorted(p.name for p in (found / "labels").iterdir()) == ["0.png", "1.png"]


def test_a_video_has_a_mask_of_each_class_in_each_frame(flood, tmp_path):
    pytest.importorskip("av")
    out = tmp_path / "run"
    opts = small(flood, out)
    opts[opts.index("SOLVER.MAX_ITER") + 1] = "1"
    assert main(["train", "--config-file", "unet.yaml", *opts]) == 0
    frames, results = tmp_path / "frames", tmp_path / "found.json"
    frames.mkdir()
    for n in range(2):
        cv2.imwrite(str(frames / f"{n}.png"), np.full((64, 96, 3), 90, np.uint8))
    line = ["video", str(frames), "--config-file", str(out / "config.yaml"), "--no-progress"]
    # Dry ground too: a single step may have learned either.
    line += ["--results", str(results), "--out", str(tmp_path / "marked.mp4")]
    assert main([*line, "--opts", "MODEL.SEM_SEG_HEAD.BACKGROUND_CLASS", "-1"]) == 0
    found = json.loads(results.read_text())
    assert [c["name"] for c in found["categories"]] == ["dry", "flood"]
    for frame in found["frames"]:
        areas = [i["segmentation"]["size"] for i in frame["instances"]]
        assert areas
        assert all(size == [64, 96] for size in areas)


def test_other_classes_than_the_models_are_refused_by_name(flood, tmp_path, capsys):
    opts = [*small(flood, tmp_path / "run"), "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "5"]
    assert main(["train", "--config-file", "unet.yaml", *opts]) == 2
    error = capsys.readouterr().err
    assert "MODEL.SEM_SEG_HEAD.NUM_CLASSES is 5" in error
    assert "has 2 classes (dry, flood); set it to 2" in error
    opts = [*small(flood, tmp_path / "run"), "MODEL.CLASS_NAMES", "['dry','water']"]
    assert main(["train", "--config-file", "unet.yaml", *opts]) == 2
    assert "flood is none of these" in capsys.readouterr().err
