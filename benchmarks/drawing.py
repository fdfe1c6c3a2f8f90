"""Time to draw a frame: Detectron2's VideoVisualizer against draw_instance_predictions.

Both get the same frame and the same detections, and both give a BGR image. They take turns, so that
whatever else the machine does meets both alike. Given is processor time on one thread, the median
and the range from the 10th to the 90th percentile.

  python benchmarks/drawing.py --rounds 9
"""

from __future__ import annotations

import argparse
import time

import cv2
import numpy as np
import torch
from alternation import spread
from detectron2.data import Metadata
from detectron2.structures import Boxes, Instances
from detectron2.utils.video_visualizer import VideoVisualizer

from msnet_d2.visualization.draw import draw_instance_predictions

METADATA = Metadata(
    name="drawing",
    thing_classes=["Slight", "Severe", "Debris"],
    thing_colors=[(60, 180, 75), (255, 165, 0), (220, 20, 60)],
)


def make_frame(height: int, width: int, count: int, seed: int = 0) -> tuple:
    """A noisy frame and ``count`` detections: blobs of 3 to 15% of the frame's height."""
    rng = np.random.default_rng(seed)
    frame = cv2.resize(
        rng.integers(0, 255, (height // 8, width // 8, 3), np.uint8), (width, height)
    )
    masks = np.zeros((count, height, width), np.uint8)
    boxes = []
    for mask in masks:
        radii = (rng.uniform(0.015, 0.075, 2) * height).astype(int) + 2
        center = rng.uniform([0, 0], [width, height]).astype(int)
        points = cv2.ellipse2Poly(
            center.tolist(), radii.tolist(), int(rng.integers(180)), 0, 360, 12
        )
        points = points + rng.integers(-radii.min() // 3, radii.min() // 3 + 1, points.shape)
        cv2.fillPoly(mask, [points.astype(np.int32)], 1)
        x, y, w, h = cv2.boundingRect(mask)
        boxes.append([x, y, x + w, y + h])
    instances = Instances((height, width))
    instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.scores = torch.from_numpy(rng.uniform(0.5, 1, count))
    instances.pred_classes = torch.from_numpy(rng.integers(0, 3, count))
    instances.pred_masks = torch.from_numpy(masks).bool()
    return frame, instances


def detectron2_way(frame: np.ndarray, instances: Instances) -> np.ndarray:
    """As Detectron2's own demo draws a frame of a video."""
    visualizer = VideoVisualizer(METADATA)
    drawn = visualizer.draw_instance_predictions(frame[:, :, ::-1], instances)
    return cv2.cvtColor(drawn.get_image(), cv2.COLOR_RGB2BGR)


def our_way(frame: np.ndarray, instances: Instances) -> np.ndarray:
    """The same content and more: legend, colours by level."""
    return draw_instance_predictions(frame, instances, metadata=METADATA, min_score=0.0)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--pictures", metavar="FOLDER", help="write both pictures of each row here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    print("| frame | detections | VideoVisualizer, ms | draw_instance_predictions, ms | ratio |")
    print("|---|---|---|---|---|")
    for height, width in ((360, 640), (720, 1280), (1080, 1920)):
        for count in (10, 100):
            frame, instances = make_frame(height, width, count)
            times = {detectron2_way: [], our_way: []}
            for draw in times:
                picture = draw(frame, instances)  # warm up: fonts, cached labels
                if args.pictures:
                    path = f"{args.pictures}/{height}_{count}_{draw.__name__}.png"
                    cv2.imwrite(path, picture)
            for _ in range(args.rounds):
                for draw, taken in times.items():
                    start = time.process_time()
                    draw(frame, instances)
                    taken.append((time.process_time() - start) * 1e3)
            theirs, ours = times.values()
            print(
                f"| {width}×{height} | {count} | {spread(theirs)} | {spread(ours)} | "
                f"{np.median(theirs) / np.median(ours):.0f}× |"
            )


if __name__ == "__main__":
    main()
