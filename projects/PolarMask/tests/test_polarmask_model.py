"""The meta-architecture: targets, losses, detections, and that it can learn."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone, build_model
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, PolygonMasks
from detectron2.utils.events import EventStorage
from polarmask.config import add_polarmask_config
from polarmask.meta_arch import PolarMask
from polarmask.rays import ray_lengths
from torch import nn

from msnet_d2.errors import ConfigError
from msnet_d2.evaluation import ISBDAEvaluator

SIZE = (64, 64)  # height, width; maps of 16 x 16, 8 x 8, 4 x 4 locations


class TinyBackbone(Backbone):
    """Maps of strides 4, 8 and 16 by one convolution each."""

    def __init__(self, cfg, input_shape):
        super().__init__()

        def layer(inputs, outputs):
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, stride=2, padding=1),
                nn.GroupNorm(8, outputs),
                nn.ReLU(),
            )

        self.stem = layer(3, 16)
        self.layers = nn.ModuleList([layer(16, 32), layer(32, 32), layer(32, 32)])

    def output_shape(self):
        return {f"p{n}": ShapeSpec(channels=32, stride=2**n) for n in (2, 3, 4)}

    def forward(self, x):
        x, maps = self.stem(x), {}
        for n, layer in zip((2, 3, 4), self.layers):
            maps[f"p{n}"] = x = layer(x)
        return maps


if "TinyBackbone" not in BACKBONE_REGISTRY:
    BACKBONE_REGISTRY.register(TinyBackbone)


@pytest.fixture
def cfg():
    cfg = get_cfg()
    add_polarmask_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "PolarMask"
    cfg.MODEL.BACKBONE.NAME = "TinyBackbone"
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.MODEL.POLARMASK.IN_FEATURES = ["p2", "p3", "p4"]
    cfg.MODEL.POLARMASK.NUM_CONVS = 1
    cfg.MODEL.POLARMASK.NUM_RAYS = 4
    return cfg


def square(x0, y0, x1, y1):
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def truth(*polygons, classes=None):
    """Ground truth of an image from one polygon an object."""
    points = [np.array(p, dtype=float).reshape(-1, 2) for p in polygons]
    instances = Instances(SIZE)
    boxes = [[*p.min(axis=0), *p.max(axis=0)] for p in points]
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.gt_classes = torch.tensor(classes or [1] * len(points), dtype=torch.int64)
    instances.gt_masks = PolygonMasks([[p.reshape(-1)] for p in points])
    return instances


def anchors_of(model):
    return model.anchor_generator([torch.zeros(1, 1, 64 // s, 64 // s) for s in (4, 8, 16)])


def positives(model, instances):
    """(stride, x, y) -> (class, rays) of the positive locations of one image."""
    anchors = anchors_of(model)
    (labels,), targets = model.label_locations(anchors, [instances])
    boxes = Boxes.cat(anchors)
    strides = (boxes.tensor[:, 2] - boxes.tensor[:, 0]).tolist()
    index = (labels < 3).nonzero()[:, 0].tolist()
    centers = boxes.get_centers().tolist()
    return {
        (strides[i], *centers[i]): (int(labels[i]), rays.tolist())
        for i, rays in zip(index, targets, strict=True)
    }


def batch_of(*ground_truths, seed=0, **more):
    generator = torch.Generator().manual_seed(seed)
    batch = []
    for gt in ground_truths:
        image = torch.randint(0, 256, (3, *SIZE), generator=generator, dtype=torch.uint8)
        batch.append({"image": image, **more} | ({} if gt is None else {"instances": gt}))
    return batch


def test_locations_of_an_object_and_their_rays(cfg):
    # Centre (16, 16). Locations of stride 4 lie at 2, 6, 10, 14, 18, 22, ...; nearer than 6 are 14
    # and 18. Those of stride 8 are near enough too, but made for objects that reach over 32 pixels.
    found = positives(build_model(cfg), truth(square(8, 8, 24, 24)))
    assert found == {
        (4, 14, 14): (1, [10, 10, 6, 6]),
        (4, 18, 14): (1, [6, 10, 10, 6]),
        (4, 14, 18): (1, [10, 6, 6, 10]),
        (4, 18, 18): (1, [6, 6, 10, 10]),
    }


def test_level_by_scale(cfg):
    # Centre (30, 30), reaching 60 - x. Stride 4 takes up to 32 pixels: (30, 30) alone, 30 away from
    # all sides. Stride 8 takes 32 to 64: of 20, 28, 36 in both axes all but (28, 28), which is
    # exactly 32 away. Stride 16 takes more than 64: none.
    found = positives(build_model(cfg), truth(square(0, 0, 60, 60)))
    three = (20, 28, 36)
    assert set(found) == {(4, 30, 30)} | {(8, x, y) for x in three for y in three} - {(8, 28, 28)}


@pytest.mark.parametrize(("center", "near"), [("mass", {14, 18}), ("box", {18, 22})])
def test_sampling_around_mass_or_box(cfg, center, near):
    # A triangle with its mass at (16, 16) and its box's centre at (20, 20).
    cfg.MODEL.POLARMASK.CENTER = center
    found = positives(build_model(cfg), truth([8, 8, 32, 8, 8, 32]))
    assert {x for _, x, _ in found} == {y for _, _, y in found} == near


def test_location_outside_the_shape_has_a_shortest_ray(cfg):
    # A frame open to the right; mass left of the middle. From its notch nothing lies to the right.
    c_shape = [8, 8, 28, 8, 28, 12, 12, 12, 12, 24, 28, 24, 28, 28, 8, 28]
    cfg.MODEL.POLARMASK.CENTER = "box"
    found = positives(build_model(cfg), truth(c_shape))
    assert found[4, 18, 18][1] == pytest.approx([1e-6, 10, 10, 10])


def test_smaller_object_wins(cfg):
    # Around (15, 15): 10, 14, 18; of these the small square at (16, 16) takes 14 and 18.
    found = positives(
        build_model(cfg), truth(square(0, 0, 30, 30), square(8, 8, 24, 24), classes=[0, 2])
    )
    assert len(found) == 9
    small = {(4, x, y) for x in (14, 18) for y in (14, 18)}
    assert {key for key, (label, _) in found.items() if label == 2} == small


def test_targets_are_those_of_fcos_at_all_locations(cfg):
    """Looking near the centres only finds what comparing everything with everything finds."""
    cfg.MODEL.POLARMASK.CENTER = "box"
    model = build_model(cfg)
    anchors = anchors_of(model)
    rng = np.random.default_rng(0)
    for _ in range(20):
        corners = rng.uniform(-8, 60, (rng.integers(1, 9), 2))
        sizes = rng.uniform(2, 70, corners.shape)
        gt = truth(*(square(*c, *(c + s)) for c, s in zip(corners, sizes)))
        gt.gt_classes = torch.from_numpy(rng.integers(0, 3, len(gt)))
        (labels,), _ = model.label_locations(anchors, [gt])
        (expected,), _ = model.label_anchors(anchors, [gt])
        assert torch.equal(labels, expected)


def test_bitmasks_as_targets(cfg):
    model = build_model(cfg)
    instances = truth(square(8, 8, 24, 24))
    mask = torch.zeros(1, *SIZE, dtype=torch.bool)
    mask[0, 8:24, 8:24] = True
    instances.gt_masks = BitMasks(mask)
    # Contours run through pixel centres: half a pixel less on each side.
    assert positives(model, instances)[4, 14, 14] == (1, [9.5, 9.5, 5.5, 5.5])


def test_losses_by_hand(cfg):
    model = build_model(cfg).train()
    model.loss_normalizer = 2.0  # so that with two positive locations it stays 2
    labels = torch.tensor([[3, 0, 2]])
    logits = torch.full((1, 3, 3), -30.0)
    logits[0, 1, 0] = 30.0  # right
    logits[0, 2, 2] = 0.0  # undecided: focal loss 0.25 * 0.5^2 * log 2 = 0.04332
    rays = torch.tensor([[[9.0, 9, 9, 9], [2, 2, 2, 2], [1, 1, 1, 1]]])
    targets = torch.tensor([[2.0, 2, 2, 2], [3, 3, 3, 3]])  # IoU losses 0 and log 3
    centerness = torch.zeros(1, 3)  # targets 1 and 1: log 2 each
    with EventStorage():
        losses = model.losses(logits, rays, centerness, labels, targets)
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(
        {
            "loss_polar_cls": 0.25 * 0.25 * math.log(2) / 2,
            "loss_polar_mask": math.log(3) / 2,
            "loss_polar_ctr": 2 * math.log(2) / 2,
        },
        abs=1e-6,
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_step_on_a_half_empty_batch(cfg, precision):
    model = build_model(cfg).train()
    nothing = Instances(SIZE, gt_boxes=Boxes(torch.zeros(0, 4)), gt_classes=torch.zeros(0).long())
    batch = batch_of(truth(square(8, 8, 24, 24), [30, 30, 50, 30, 40, 55]), nothing)
    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16")
    with EventStorage(), autocast:
        losses = model(batch)
    assert set(losses) == {"loss_polar_cls", "loss_polar_mask", "loss_polar_ctr"}
    assert all(torch.isfinite(loss) and loss > 0 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_training_step_without_any_object(cfg):
    model = build_model(cfg).train()
    nothing = Instances(SIZE, gt_boxes=Boxes(torch.zeros(0, 4)), gt_classes=torch.zeros(0).long())
    with EventStorage():
        losses = model(batch_of(nothing, nothing))
    assert losses["loss_polar_mask"] == losses["loss_polar_ctr"] == 0
    sum(losses.values()).backward()
    # Every rank of a distributed run needs a gradient of everything.
    assert all(p.grad is not None for p in model.parameters())


@pytest.fixture
def stub(cfg):
    """Model whose head finds circles of a given radius; ``(level, row, column) -> (class, p)``."""
    cfg.MODEL.POLARMASK.NUM_RAYS = 36
    model = build_model(cfg).eval()

    def detect(found, radius, **more):
        logits = [torch.full((1, 3, n, n), -20.0) for n in (16, 8, 4)]
        rays = [torch.full((1, 36, n, n), float(radius)) for n in (16, 8, 4)]
        # sigmoid(20) is 1, so that the score is the root of the class probability.
        centerness = [torch.full((1, 1, n, n), 20.0) for n in (16, 8, 4)]
        for (level, row, column), (label, p) in found.items():
            logits[level][0, label, row, column] = math.log(p / (1 - p))
        model.head.forward = lambda _features: (logits, rays, centerness)
        with torch.no_grad():
            (output,) = model(batch_of(None, **more))
        return output["instances"]

    return detect


def test_detection_in_output_resolution(stub):
    # Location (4 * 5 + 2, 4 * 7 + 2) = (22, 30), radius 8. Output: twice as wide, three times as
    # high: an ellipse around (44, 90) with axes 16 and 24.
    found = stub({(0, 7, 5): (2, 0.64)}, 8, height=192, width=128)
    assert found.image_size == (192, 128)
    assert found.pred_boxes.tensor.tolist() == [pytest.approx([28, 66, 60, 114])]
    assert found.pred_classes.tolist() == [2]
    assert found.scores.tolist() == pytest.approx([0.8])
    assert found.pred_polygons[0, 0].tolist() == pytest.approx([60, 90])
    assert found.pred_masks.shape == (1, 192, 128)
    assert found.pred_masks.dtype == torch.bool
    y, x = torch.meshgrid(torch.arange(192) + 0.5, torch.arange(128) + 0.5, indexing="ij")
    ellipse = ((x - 44) / 16) ** 2 + ((y - 90) / 24) ** 2 <= 1
    both = (found.pred_masks[0] & ellipse).sum() / (found.pred_masks[0] | ellipse).sum()
    assert both > 0.97


def test_suppression_by_class(stub):
    # Circles around (22, 30) and (26, 30): the IoU of their boxes is (12 * 16) / (20 * 16) = 0.6.
    same = stub({(0, 7, 5): (1, 0.5), (0, 7, 6): (1, 0.9)}, 8)
    assert same.pred_boxes.tensor.tolist() == [pytest.approx([18, 22, 34, 38])]
    other = stub({(0, 7, 5): (1, 0.5), (0, 7, 6): (0, 0.9)}, 8)
    assert other.pred_classes.tolist() == [0, 1]


def test_detection_over_the_border(stub):
    # Around (2, 2): only the lower right part of the circle is in the image.
    found = stub({(0, 0, 0): (0, 0.9)}, 8)
    assert found.pred_boxes.tensor.tolist() == [pytest.approx([0, 0, 10, 10])]
    assert found.pred_masks[0].any()
    assert not found.pred_masks[0, 11:].any()


def test_nothing_found(stub):
    found = stub({}, 8, height=50, width=70)
    assert len(found) == 0
    assert found.pred_masks.shape == (0, 50, 70)
    assert set(found.get_fields()) >= {"pred_boxes", "scores", "pred_classes", "pred_masks"}


def test_batch_of_unlike_sizes(cfg):
    cfg.MODEL.POLARMASK.SCORE_THRESH_TEST = 0.0
    cfg.TEST.DETECTIONS_PER_IMAGE = 7
    model = build_model(cfg).eval()
    batch = batch_of(None, None, height=40, width=50)
    batch[1]["image"] = batch[1]["image"][:, :48, :37]
    with torch.no_grad():
        outputs = model(batch)
    assert [output["instances"].pred_masks.shape for output in outputs] == [(7, 40, 50)] * 2
    boxes = outputs[1]["instances"].pred_boxes.tensor
    assert boxes[:, 2].max() <= 50
    assert boxes[:, 3].max() <= 40


def test_rays_start_in_the_middle_of_their_level(cfg):
    model = build_model(cfg)
    maps = [torch.randn(2, 32, n, n) for n in (16, 8, 4)]
    for rays, stride in zip(model.head(maps)[1], (4, 8, 16)):
        assert (rays > 0).all()
        assert rays.mean().item() == pytest.approx(4 * stride, rel=0.2)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("CENTER", "middle", "CENTER is 'middle'; it must be one of mass, box"),
        ("IN_FEATURES", ["p2", "p9"], "IN_FEATURES has 'p9', but .* gives p2, p3, p4"),
        ("IN_FEATURES", [], "IN_FEATURES is empty"),
        ("NUM_RAYS", 2, "NUM_RAYS is 2; it must be at least 3"),
        ("NUM_CONVS", 0, "NUM_CONVS is 0; it must be at least 1"),
        ("MIN_RAY_LENGTH", 0.0, "MIN_RAY_LENGTH is 0.0; it must be above 0"),
    ],
)
def test_wrong_keys(cfg, key, value, message):
    cfg.MODEL.POLARMASK[key] = value
    with pytest.raises(ConfigError, match=message):
        build_model(cfg)


def shapes_on_images(folder, count):
    """Images with a red rectangle, a green disc and a blue star, and their annotations."""
    rng = np.random.default_rng(0)
    records = []
    for number in range(count):
        image = np.full((*SIZE, 3), 90, dtype=np.uint8) + rng.integers(
            0, 20, (*SIZE, 3), dtype=np.uint8
        )
        annotations = []
        places = rng.permutation([(17, 17), (47, 17), (17, 47), (47, 47)])[:3]
        for category, (x, y) in enumerate(places):
            radius = rng.uniform(8, 13)
            angles = np.arange(40) * 2 * np.pi / 40
            if category == 0:
                points = np.array([[-1, -0.7], [1, -0.7], [1, 0.7], [-1, 0.7]])
            elif category == 1:
                points = np.stack((np.cos(angles), np.sin(angles)), axis=1)
            else:
                radii = 0.75 + 0.25 * np.cos(5 * angles)
                points = np.stack((radii * np.cos(angles), radii * np.sin(angles)), axis=1)
            points = points * radius + (x, y)
            color = [40, 40, 40]
            color[2 - category] = 220
            cv2.fillPoly(image, [np.round((points - 0.5) * 16).astype(np.int32)], color, shift=4)
            low, high = points.min(axis=0), points.max(axis=0)
            annotations.append(
                {
                    "bbox": [*low, *high],
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "category_id": category,
                    "segmentation": [points.reshape(-1).tolist()],
                    "iscrowd": 0,
                }
            )
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), image)
        record = {"file_name": str(path), "image_id": number, "height": 64, "width": 64}
        records.append(record | {"annotations": annotations})
    return records


def test_learns_a_few_images_by_heart(cfg, tmp_path):
    """From dataset dicts to ISBDA's figures; on the images it was trained on it must be good."""
    cfg.MODEL.POLARMASK.NUM_RAYS = 36
    records = shapes_on_images(tmp_path, 4)
    name = "test_polarmask_shapes"
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(thing_classes=["rectangle", "disc", "star"])
    try:
        mapper = DatasetMapper(True, augmentations=[], image_format="BGR", use_instance_mask=True)
        batch = [mapper(record) for record in records]
        torch.manual_seed(0)
        model = build_model(cfg).train()
        optimizer = torch.optim.Adam(model.parameters())
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=120)
        with EventStorage():
            for _ in range(120):
                losses = model(batch)
                optimizer.zero_grad()
                sum(losses.values()).backward()
                optimizer.step()
                schedule.step()
        evaluator = ISBDAEvaluator(name, distributed=False)
        with torch.no_grad():
            evaluator.process(batch, model.eval()(batch))
        results = evaluator.evaluate()
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    assert results["isbda_segm"]["AP"] > 95
    assert results["isbda_bbox"]["AP"] > 95
    # COCO's thresholds go up to IoU 0.95: a pixel on the rim of a disc of 20 costs 0.05 already.
    assert results["segm"]["AP"] > 80


def test_registered():
    from detectron2.modeling import META_ARCH_REGISTRY

    assert META_ARCH_REGISTRY.get("PolarMask") is PolarMask
    assert ray_lengths.__module__ == "polarmask.rays"
