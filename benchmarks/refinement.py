"""What score refinement does to AP: three neighbor modes, two rules, four kinds of embedding.

Each model (a folder with config.yaml and model_final.pth of a RefinedDetector) detects once on a
data set of which every frame is annotated. The detections are then refined in all ways by the same
ScoreRefiner that `msnet video` uses, and scored by ISBDA's protocol:

  rule  paper   scores in [0.2, 0.7] are averaged with the best match's
        steady  mutual matches of one class, all scores, running means (MUTUAL_NN, RUNNING_MEAN)
  f     paper      trained on patches at one place of two frames
        aligned    trained on patches that follow the ground (the folders of --aligned)
        untrained  random weights
        none       the pyramid's features as they are

With --stride 5 a frame's neighbor is the fifth next. Top-1 match rates of the same physical part
across adjacent frames, on true boxes, are given for each f.

  python benchmarks/refinement.py --model RUN1 RUN2 RUN3 --aligned F1 F2 F3 \
      --data SCENES1:val SCENES2:val SCENES3:val --out refinement.json
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
from pathlib import Path

import cv2
import torch
from detectron2.data import DatasetCatalog
from detectron2.data import transforms as T
from detectron2.structures import Boxes, Instances
from msnet_benchmark.match_rate import match_rates
from msnet_benchmark.provenance import describe_run, provenance_lines
from tabulate import tabulate
from tqdm import tqdm

from msnet_d2.config import load_config
from msnet_d2.data import resolve_dataset
from msnet_d2.evaluation.ground_truth import load_ground_truth
from msnet_d2.evaluation.results import instances_to_results
from msnet_d2.evaluation.scoring import score_results
from msnet_d2.inference.predictor import Predictor
from msnet_d2.score_refinement.matching import AppearanceRule
from msnet_d2.score_refinement.network import ScoreRefinementNetwork
from msnet_d2.score_refinement.refined_detector import captured_features
from msnet_d2.score_refinement.refiner import NEIGHBORS, ScoreRefiner

RULES = {
    "paper": {"rule": AppearanceRule()},
    "steady": {
        "rule": AppearanceRule(score_range=(0.0, 1.0), same_class=True, mutual_nn=True),
        "running_mean": True,
    },
}
KINDS = ("paper", "aligned", "untrained", "none")
NONE = "not refined"


def networks_of(cfg, model, aligned: Path) -> dict[str, ScoreRefinementNetwork]:
    """The kinds of embedding, by name."""
    weights = ["MODEL.WEIGHTS", str(aligned / "model_final.pth")]
    other = Predictor(load_config(str(aligned / "config.yaml"), weights)).model
    for name, value in model.detector.state_dict().items():
        if not torch.equal(value, other.detector.state_dict()[name]):
            raise SystemExit(f"{aligned} was trained on another detector ({name} differs)")
    torch.manual_seed(0)
    shapes = model.detector.backbone.output_shape()
    untrained = ScoreRefinementNetwork(cfg, shapes).eval()
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.SRN.FC_DIMS = []
    none = ScoreRefinementNetwork(cfg, shapes).eval()
    return {"paper": model.srn, "aligned": other.srn, "untrained": untrained, "none": none}


@torch.no_grad()
def detect(predictor: Predictor, networks: dict, records: list[dict]) -> list[dict]:
    """Detect on every frame once, and embed the detections by every network."""
    frames, sizes = [], predictor.cfg.INPUT
    for record in tqdm(records, unit="frame", desc="detecting"):
        image = cv2.imread(record["file_name"])
        video = {"video_id": record["video_id"], "frame_index": record["frame_index"]}
        with captured_features(predictor.model.detector.backbone) as features:
            output = predictor.predict_batch([image], [video])[0]
        instances = output["instances"]
        instances.remove("embeddings")
        height, width = T.ResizeShortestEdge.get_output_shape(
            *image.shape[:2], sizes.MIN_SIZE_TEST, sizes.MAX_SIZE_TEST
        )
        boxes = Boxes(instances.pred_boxes.tensor.clone())
        boxes.scale(width / image.shape[1], height / image.shape[0])
        embeddings = {kind: f.embed_boxes(features, [boxes]) for kind, f in networks.items()}
        results = instances_to_results(instances, record["image_id"], [1, 2, 3])
        instances.remove("pred_masks")
        frames.append({**output, "embeddings": embeddings, "results": results, **video})
    return frames


def refine(frames: list[dict], kind: str, refiner: ScoreRefiner, stride: int) -> list[dict]:
    """COCO results of all frames with refined scores; each ``stride``-th frame is a neighbor."""
    results = []
    for video in sorted({f["video_id"] for f in frames}):
        for phase in range(stride):
            own = [f for f in frames if f["video_id"] == video][phase::stride]
            done = []
            for i, f in enumerate(own):
                instances = Instances(f["instances"].image_size, **f["instances"].get_fields())
                instances.embeddings = f["embeddings"][kind]
                output = {"instances": instances, "thumbnail": f["thumbnail"]}
                done += refiner.update(output, video_id=video, frame_index=i)
            done += refiner.flush()
            for f, output in zip(own, done):
                scores = output["instances"].scores.tolist()
                results += [{**r, "score": s} for r, s in zip(f["results"], scores)]
    return results


def measure(model: Path, aligned: Path, data: str, strides: list[int]) -> dict:
    """All figures of one model on one data set."""
    overrides = ["MODEL.WEIGHTS", str(model / "model_final.pth")]
    cfg = load_config(str(model / "config.yaml"), overrides)
    predictor = Predictor(cfg)
    (name,) = resolve_dataset(data)
    records = sorted(DatasetCatalog.get(name), key=lambda r: (str(r["video_id"]), r["frame_index"]))
    truth = load_ground_truth(name)
    networks = networks_of(cfg, predictor.model, aligned)
    rates = match_rates(cfg, predictor.model.detector, name, networks, max_gap=1)
    frames = detect(predictor, networks, records)

    def score(results: list[dict]) -> dict:
        figures = score_results(truth, results, tasks=["isbda_segm", "isbda_bbox"])
        return {task: dict(values) for task, values in figures.items()}

    figures = {NONE: score([r for f in frames for r in f["results"]])}
    ways = [(s, r, n, k) for s in strides for r in RULES for n in NEIGHBORS for k in KINDS]
    for stride, rule, neighbor, kind in tqdm(ways, unit="way", desc="refining"):
        refiner = ScoreRefiner(neighbors=neighbor, track=False, **RULES[rule])
        key = f"{stride} {rule} {neighbor} {kind}"
        figures[key] = score(refine(frames, kind, refiner, stride))
    return {
        "frames": len(frames),
        "figures": figures,
        "match_rates": {kind: rate.figures() for kind, rate in rates.items()},
    }


def tables(runs: list[dict], strides: list[int]) -> str:
    """The figures of all runs in Markdown: means over the runs, and differences run by run."""

    def ap(run: dict, key: str, task: str = "isbda_segm") -> float:
        return run["figures"][key][task]["AP"]

    plain = [ap(run, NONE) for run in runs]
    text = f"Not refined: mask AP {_spread(plain)}, "
    text += f"box AP {_spread([ap(run, NONE, 'isbda_bbox') for run in runs])}.\n\n"
    for stride in strides:
        rows = []
        for rule in RULES:
            for neighbor in NEIGHBORS:
                row = [rule, neighbor]
                for kind in KINDS:
                    values = [ap(run, f"{stride} {rule} {neighbor} {kind}") for run in runs]
                    gains = ", ".join(f"{v - p:+.1f}" for v, p in zip(values, plain))
                    row.append(f"{statistics.mean(values):.1f} ({gains})")
                rows.append(row)
        heads = ["rule", "neighbor", *(f"f {kind}" for kind in KINDS)]
        text += f"Stride {stride}; mask AP, and gain in each run:\n\n"
        text += tabulate(rows, heads, tablefmt="github", disable_numparse=True) + "\n\n"
    columns = {
        "top1": "top-1 match rate",
        "chance": "guessing",
        "similarity_same": "similarity to the same part",
        "similarity_other": "to the most similar other",
    }
    rows = [
        [kind, *(_spread([run["match_rates"][kind][key] for run in runs]) for key in columns)]
        for kind in KINDS
    ]
    text += "True boxes of adjacent frames, percent:\n\n"
    heads = ["f", *columns.values()]
    return text + tabulate(rows, heads, tablefmt="github", disable_numparse=True) + "\n"


def _spread(values: list[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", nargs="+", type=Path, required=True, metavar="DIR")
    parser.add_argument("--aligned", nargs="+", type=Path, required=True, metavar="DIR")
    parser.add_argument("--data", nargs="+", required=True, metavar="SPEC", help="one a model")
    parser.add_argument("--stride", nargs="+", type=int, default=[1, 5], metavar="N")
    parser.add_argument("--out", type=Path, default=Path("refinement.json"), metavar="FILE")
    args = parser.parse_args()
    if not len(args.model) == len(args.data) == len(args.aligned):
        parser.error("--model, --aligned and --data take one each for each run")
    logging.getLogger("msnet_d2").setLevel(logging.WARNING)
    runs = [
        measure(model, aligned, data, args.stride)
        for model, aligned, data in zip(args.model, args.aligned, args.data)
    ]
    about = describe_run()
    args.out.write_text(json.dumps({"run": about, "runs": runs}, indent=1))
    print("\n".join(provenance_lines(about)) + "\n\n" + tables(runs, args.stride))


if __name__ == "__main__":
    main()
