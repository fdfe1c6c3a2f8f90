"""A million annotations: load, check and evaluate, seconds of processor time and peak memory.

python benchmarks/million.py --annotations 10000 100000 1000000
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from pathlib import Path

import numpy as np
from alternation import print_table, use_threads
from msnet_benchmark.memory import resident_mib

from msnet_d2.data import load_isbda_json, register_isbda_instances
from msnet_d2.evaluation.ground_truth import load_ground_truth
from msnet_d2.evaluation.scoring import score_results

IN_AN_IMAGE = 100


def write(folder: Path, count: int) -> tuple[Path, list[dict]]:
    """A data set of ``count`` boxes with their polygons, and as many detections, a little off."""
    rng = np.random.default_rng(0)
    corner = np.round(rng.uniform(0, [1800, 960], (count, 2)), 1)
    side = np.round(rng.uniform(10, 100, (count, 2)), 1)
    shift = np.round(rng.normal(0, 4, (count, 2)), 1)
    annotations, found = [], []
    for i in range(count):
        (x, y), (w, h), (dx, dy) = corner[i].tolist(), side[i].tolist(), shift[i].tolist()
        common = {"image_id": i // IN_AN_IMAGE + 1, "category_id": i % 3 + 1}
        annotations.append(
            {
                **common,
                "id": i + 1,
                "damage_bbox": [x, y, w, h],
                "house_bbox": [x, y, w + 10, h + 10],
                "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                "iscrowd": 0,
                "area": w * h,
            }
        )
        found.append({**common, "bbox": [x + dx, y + dy, w, h], "score": (i * 7919 % 1000) / 1000})
    images = [
        {"id": i + 1, "file_name": f"1_{i}.jpg", "height": 1080, "width": 1920}
        for i in range(-(-count // IN_AN_IMAGE))
    ]
    names = ["Slight", "Severe", "Debris"]
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(names)]
    path = folder / f"instances_{count}.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return path, found


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--annotations", type=int, nargs="+", default=[10000, 100000, 1000000])
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    use_threads()
    rows = []
    for count in args.annotations:
        with tempfile.TemporaryDirectory() as name:
            path, found = write(Path(name), count)
            before, marks = resident_mib(), [time.process_time()]
            records = load_isbda_json(path, name)
            assert sum(len(r["annotations"]) for r in records) == count
            del records
            marks.append(time.process_time())
            after_load = resident_mib("VmHWM")
            register_isbda_instances(f"million_{count}", str(path), name)
            truth = load_ground_truth(f"million_{count}")
            marks.append(time.process_time())
            figures = score_results(truth, found, tasks=("bbox", "isbda_bbox"))
            marks.append(time.process_time())
            assert figures["isbda_bbox"]["AP"] > 10
        seconds = [f"{s:.1f}" for s in np.diff(marks)]
        peak = resident_mib("VmHWM")
        size = [count, f"{after_load - before:.0f}", f"{peak - before:.0f}"]
        rows.append([*size, *seconds])
        print(rows[-1], flush=True)
    print_table(
        [
            "annotations",
            "peak of loading, MiB",
            "of all, MiB",
            "load + check, s",
            "ground truth, s",
            "score boxes, 2 protocols, s",
        ],
        rows,
    )


if __name__ == "__main__":
    main()
