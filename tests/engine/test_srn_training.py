"""The score refinement network through the trainer: trained, evaluated, on one process and on
two."""

from __future__ import annotations

import json
import os
import traceback
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm

from msnet_d2.engine import MSNetTrainer, evaluate, train
from msnet_d2.errors import ConfigError, DatasetError
from msnet_d2.evaluation.refining import RefiningEvaluator
from msnet_d2.score_refinement.refiner import ScoreRefiner

SIZE = (64, 96)  # height, width


def scene(shift, seed):
    """A textured ground with a dark part on a light building, seen by a camera that moves right."""
    rng = np.random.default_rng(seed)
    ground = cv2.resize(rng.integers(60, 160, (8, 24, 3), dtype=np.uint8), (192, 64))
    cv2.rectangle(ground, (60, 16), (100, 50), (210, 210, 210), -1)
    cv2.rectangle(ground, (70, 22), (86, 38), (20, 20, 60), -1)
    return np.ascontiguousarray(ground[:, shift : shift + SIZE[1]])


@pytest.fixture
def videos(tmp_path):
    """A folder of 26 frames, for triplets at 2 frames a second, and val/: 3 videos, 4, 2 and 3
    frames."""
    frames = tmp_path / "flight"
    frames.mkdir()
    for i in range(26):
        cv2.imwrite(str(frames / f"{i}.png"), scene(2 * i, seed=0))
    folder = tmp_path / "data"
    (folder / "val").mkdir(parents=True)
    (folder / "annotations").mkdir()
    images, annotations = [], []
    # Neither videos nor frames in order: evaluation has to sort them.
    for video, frame in (
        (2, 10),
        (1, 20),
        (3, 0),
        (1, 0),
        (3, 20),
        (1, 10),
        (2, 0),
        (1, 30),
        (3, 10),
    ):
        name, shift = f"{video}_{frame}.png", frame // 2 + 10
        cv2.imwrite(str(folder / "val" / name), scene(shift, seed=video))
        images.append({"id": len(images) + 1, "file_name": name, "width": 96, "height": 64})
        x, y = 70 - shift, 22
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": len(images),
                "category_id": 1,
                "segmentation": [[x, y, x + 16, y, x + 16, y + 16, x, y + 16]],
                "area": 256,
                "iscrowd": 0,
                "damage_bbox": [x, y, 16, 16],
                "house_bbox": [x - 10, y - 6, 40, 34],
            }
        )
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": str(i)} for i in (1, 2, 3)],
    }
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def srn_cfg(tiny_cfg, videos, tmp_path):
    """Two steps of the embedding on the folder of frames, evaluation on val/. All is refined."""
    cfg = tiny_cfg
    cfg.SEED = 1
    cfg.INPUT.MIN_SIZE_TEST = 64
    cfg.DATASETS.TRAIN = ()
    cfg.DATASETS.TEST = (f"{videos}:val",)
    cfg.DATASETS.SRN_VIDEOS = (str(tmp_path / "flight"),)
    cfg.DATASETS.SRN_FRAME_RATE = 2.0
    cfg.MODEL.META_ARCHITECTURE = "RefinedDetector"
    cfg.MODEL.SRN.DETECTOR = "MSNet"
    cfg.MODEL.SRN.FC_DIMS = [16, 16]
    cfg.MODEL.SRN.NUM_PAIRS = 4
    cfg.TEST.SCORE_REFINEMENT.SCORE_RANGE = (0.0, 1.0)
    cfg.TEST.SCORE_REFINEMENT.SHOT_CHANGE_THRESH = 0.0
    # Untrained heads give about 1/4 to each class, so much is found and refined.
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.1
    cfg.TEST.DETECTIONS_PER_IMAGE = 8
    cfg.SOLVER.OPTIMIZER = "ADAM"
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.SOLVER.MAX_ITER = 2
    cfg.SOLVER.STEPS = ()
    cfg.SOLVER.WARMUP_ITERS = 0
    cfg.SOLVER.BASE_LR = 0.001
    cfg.OUTPUT_DIR = str(tmp_path / "run")
    cfg.MODEL.WEIGHTS = str(tmp_path / "detector.pth")
    save_detector(cfg, cfg.MODEL.WEIGHTS)
    return cfg


def save_detector(cfg, path):
    """A checkpoint of the detector alone."""
    plain = cfg.clone()
    plain.MODEL.META_ARCHITECTURE = "MSNet"
    torch.manual_seed(3)
    model = MSNetTrainer.build_model(plain)
    torch.save({"model": model.state_dict()}, path)
    return model.state_dict()


def results_of(cfg):
    return json.loads(
        (Path(cfg.OUTPUT_DIR) / "inference" / "coco_instances_results.json").read_text()
    )


def test_the_embedding_is_trained_and_the_detector_stays_bit_identical(srn_cfg):
    srn_cfg.MODEL.RESNETS.NORM = "BN"  # statistics that training would change
    detector = save_detector(srn_cfg, srn_cfg.MODEL.WEIGHTS)
    figures = train(srn_cfg)
    assert "isbda_bbox" in figures
    saved = torch.load(Path(srn_cfg.OUTPUT_DIR) / "model_final.pth", weights_only=True)["model"]
    assert set(saved) - set(detector) == {
        f"srn.layers.{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")
    }
    for name, value in detector.items():
        assert torch.equal(saved[name], value), name
    metrics = (Path(srn_cfg.OUTPUT_DIR) / "metrics.json").read_text().splitlines()
    # With one loss Detectron2 logs the total alone.
    assert {"total_loss", "srn/similarity_positive"} <= set(json.loads(metrics[0]))

    # Evaluating the checkpoint gives the same, and the results say what was refined.
    results = results_of(srn_cfg)
    assert all({"score", "score_raw", "track_id"} <= set(entry) for entry in results)
    assert any(entry["score"] != entry["score_raw"] for entry in results)
    again = evaluate(srn_cfg, str(Path(srn_cfg.OUTPUT_DIR) / "model_final.pth"))
    assert again["isbda_bbox"] == pytest.approx(figures["isbda_bbox"], nan_ok=True)


def test_joint_training(srn_cfg, videos):
    srn_cfg.MODEL.SRN.FREEZE_DETECTOR = False
    srn_cfg.DATASETS.TRAIN = (f"{videos}:val",)
    srn_cfg.DATASETS.TEST = ()
    srn_cfg.SOLVER.MAX_ITER = 1
    train(srn_cfg)
    logged = json.loads((Path(srn_cfg.OUTPUT_DIR) / "metrics.json").read_text().splitlines()[0])
    assert {"loss_mcl", "loss_rpn_parent_cls", "loss_mask"} <= set(logged)
    parts = [value for name, value in logged.items() if name.startswith("loss_")]
    assert logged["total_loss"] == pytest.approx(sum(parts), rel=1e-4)


def test_joint_training_needs_annotated_images(srn_cfg):
    srn_cfg.MODEL.SRN.FREEZE_DETECTOR = False
    with pytest.raises(ConfigError, match=r"DATASETS\.TRAIN is empty"):
        train(srn_cfg)


def test_the_embedding_alone_needs_a_trained_detector(srn_cfg):
    srn_cfg.MODEL.WEIGHTS = ""
    with pytest.raises(ConfigError, match="on the features of a trained detector"):
        train(srn_cfg)


def test_an_embedding_without_layers_is_evaluated_but_not_trained(srn_cfg):
    """The detector's own checkpoint is all it needs."""
    srn_cfg.MODEL.SRN.FC_DIMS = []
    with pytest.raises(ConfigError, match="FC_DIMS is empty: .* use the detector's checkpoint"):
        train(srn_cfg)
    evaluate(srn_cfg)
    assert any(entry["score"] != entry["score_raw"] for entry in results_of(srn_cfg))


def test_scores_of_a_retinanet_are_refined(srn_cfg, tmp_path):
    srn_cfg.MODEL.SRN.DETECTOR = "RetinaNet"
    srn_cfg.MODEL.MASK_ON = False
    srn_cfg.MODEL.PROPOSAL_GENERATOR.NAME = "RPN"
    srn_cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    srn_cfg.MODEL.RESNETS.OUT_FEATURES = srn_cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    srn_cfg.MODEL.RETINANET.NUM_CLASSES = 3
    srn_cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 0.0
    plain = srn_cfg.clone()
    plain.MODEL.META_ARCHITECTURE = "RetinaNet"
    torch.save({"model": MSNetTrainer.build_model(plain).state_dict()}, tmp_path / "retinanet.pth")
    srn_cfg.MODEL.WEIGHTS = str(tmp_path / "retinanet.pth")
    train(srn_cfg)
    assert any(entry["score"] != entry["score_raw"] for entry in results_of(srn_cfg))


def test_test_time_augmentation_is_of_the_detector(srn_cfg, tmp_path):
    """It is evaluated beside the refined scores, which it does not have."""
    model = MSNetTrainer.build_model(srn_cfg)
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    srn_cfg.MODEL.WEIGHTS = str(tmp_path / "model.pth")
    srn_cfg.TEST.AUG.ENABLED = True
    srn_cfg.TEST.AUG.MIN_SIZES = (64,)
    srn_cfg.TEST.AUG.MAX_SIZE = 128
    metrics = evaluate(srn_cfg)
    assert {"isbda_bbox", "isbda_bbox_TTA"} <= set(metrics)


def test_without_videos(srn_cfg):
    srn_cfg.DATASETS.SRN_VIDEOS = ()
    with pytest.raises(DatasetError, match=r"DATASETS\.SRN_VIDEOS is empty"):
        train(srn_cfg)


def _evaluate(cfg, rank, world_size, folder):
    """One process of an evaluation; what it did is left in ``folder``."""
    try:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size
        )
        comm.create_local_process_group(world_size)
        cfg = cfg.clone()
        cfg.OUTPUT_DIR = str(folder)
        figures = evaluate(cfg)
        (folder / f"figures_{rank}.json").write_text(json.dumps(figures))
        code = 0
    except BaseException:
        (folder / f"error_{rank}.txt").write_text(traceback.format_exc())
        code = 1
    os._exit(code)  # nothing of the test runner shall run here


@pytest.mark.parametrize("neighbors", ["previous", "both"])
def test_one_process_and_two_give_the_same(srn_cfg, tmp_path, neighbors):
    """The same figures and the same results, refined ones among them."""
    srn_cfg.TEST.SCORE_REFINEMENT.NEIGHBORS = neighbors
    torch.manual_seed(3)
    model = MSNetTrainer.build_model(srn_cfg)
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    srn_cfg.MODEL.WEIGHTS = str(tmp_path / "model.pth")
    figures = evaluate(srn_cfg)

    folder = tmp_path / "two"
    folder.mkdir()
    context = torch.multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_evaluate, args=(srn_cfg, rank, 2, folder)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=100)
    errors = [file.read_text() for file in folder.glob("error_*.txt")]
    assert not errors
    assert [process.exitcode for process in processes] == [0, 0]

    def key(entry):
        return entry["image_id"], entry["bbox"], entry["category_id"]

    one = sorted(results_of(srn_cfg), key=key)
    two = sorted(
        json.loads((folder / "inference" / "coco_instances_results.json").read_text()), key=key
    )
    assert one == two
    assert sum(entry["score"] != entry["score_raw"] for entry in one) > 10
    assert json.loads((folder / "figures_0.json").read_text())["isbda_bbox"] == pytest.approx(
        figures["isbda_bbox"], nan_ok=True
    )


class Kept(DatasetEvaluator):
    """Keeps what it is given."""

    def reset(self):
        self.pairs = []

    def process(self, inputs, outputs):
        self.pairs += zip(inputs, outputs)

    def evaluate(self, img_ids=None):
        return {"pairs": len(self.pairs), "img_ids": img_ids}


def frame(number, score, video="a", embedded=True):
    instances = Instances(
        (10, 10),
        pred_boxes=Boxes(torch.tensor([[1.0, 1, 5, 5]])),
        scores=torch.tensor([score]),
        pred_classes=torch.tensor([0]),
    )
    source = {"image_id": number, "image": torch.zeros(3, 10, 10), "file_name": str(number)}
    source |= {"video_id": video, "frame_index": number}
    output = {"instances": instances}
    if embedded:  # the same everywhere
        instances.embeddings = torch.ones(1, 2, 1, 1)
    return source, output


class TestRefiningEvaluator:
    @pytest.mark.parametrize(
        ("neighbors", "expected"),
        [("previous", [0.3, 0.4, 0.6]), ("next", [0.4, 0.6, 0.7]), ("both", [0.4, 0.4, 0.6])],
    )
    def test_each_input_meets_its_own_output(self, neighbors, expected):
        inner = Kept()
        evaluator = RefiningEvaluator(inner, ScoreRefiner(neighbors=neighbors))
        evaluator.reset()
        frames = [frame(0, 0.3), frame(1, 0.5), frame(2, 0.7)]
        evaluator.process(*zip(*frames[:2]))  # a batch of two
        evaluator.process(*zip(*frames[2:]))
        assert evaluator.evaluate(img_ids=[7]) == {"pairs": 3, "img_ids": [7]}
        assert [source["image_id"] for source, _ in inner.pairs] == [0, 1, 2]
        assert "image" not in inner.pairs[0][0]  # pictures are not kept
        got = [output["instances"].scores.item() for _, output in inner.pairs]
        assert got == pytest.approx(expected)

    def test_outputs_without_embeddings_stay(self):
        inner = Kept()
        evaluator = RefiningEvaluator(inner, ScoreRefiner(neighbors="both"))
        evaluator.reset()
        for item in (frame(0, 0.3, embedded=False), frame(1, 0.5, embedded=False)):
            evaluator.process([item[0]], [item[1]])
        evaluator.evaluate()
        got = [output["instances"].scores.item() for _, output in inner.pairs]
        assert got == pytest.approx([0.3, 0.5])

    def test_reset_forgets(self):
        inner = Kept()
        evaluator = RefiningEvaluator(inner, ScoreRefiner(neighbors="both"))
        evaluator.reset()
        evaluator.process(*[[x] for x in frame(0, 0.3)])
        evaluator.reset()
        evaluator.process(*[[x] for x in frame(1, 0.5)])
        evaluator.evaluate()
        assert [source["image_id"] for source, _ in inner.pairs] == [1]
