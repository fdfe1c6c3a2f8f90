"""Memory of the video pipeline against the length of the video, with the detector left out.

An hour of small frames goes through decoding, drawing, encoding and the results file; a stand-in
for the model finds the same three parts in each. Resident memory is taken every tenth of the way.

  python benchmarks/video_memory.py --minutes 60
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from msnet_benchmark.memory import resident_mib

from msnet_d2.video.detections import StreamDetector
from msnet_d2.video.pipeline import process_video
from msnet_d2.video.reader import VideoReader
from msnet_d2.video.writer import VideoWriter

WIDTH, HEIGHT, FPS = 160, 96, 30


class StandIn:
    """Finds three parts in every frame, and takes the memory now and then."""

    def __init__(self, every: int) -> None:
        self.every, self.frames, self.resident = every, 0, []

    def predict_batch(self, images, extras=None):
        """Return one output a frame, as Predictor does."""
        outputs = []
        for image in images:
            if self.frames % self.every == 0:
                self.resident.append(resident_mib())
            self.frames += 1
            outputs.append({"instances": self.found(*image.shape[:2])})
        return outputs

    @staticmethod
    def found(height: int, width: int) -> SimpleNamespace:
        """Three boxes with their masks."""
        boxes = np.array([[4, 4, 24, 20], [30, 10, 60, 40], [0, 40, 20, 60]], float)
        masks = np.zeros((3, height, width), bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.astype(int)):
            mask[y0:y1, x0:x1] = True
        return SimpleNamespace(
            pred_boxes=boxes,
            pred_masks=masks,
            scores=np.array([0.9, 0.7, 0.6]),
            pred_classes=np.array([0, 1, 2]),
        )


def main() -> None:
    """Write a video, process it, print the memory on the way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    args = parser.parse_args()
    count = round(args.minutes * 60 * FPS)
    metadata = SimpleNamespace(
        thing_classes=["Slight", "Severe", "Debris"],
        thing_colors=[(60, 180, 75), (255, 165, 0), (220, 20, 60)],
    )
    rng = np.random.default_rng(0)
    grounds = rng.integers(0, 255, (8, HEIGHT, WIDTH, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "long.mp4"
        with VideoWriter(source, width=WIDTH, height=HEIGHT, fps=FPS) as writer:
            for i in range(count):
                writer.write(grounds[i // FPS % 8])
        detector = StandIn(max(1, count // 10))
        with VideoReader(str(source)) as reader:
            summary = process_video(
                reader,
                StreamDetector(detector),
                metadata=metadata,
                out=Path(folder) / "out.mp4",
                results=Path(folder) / "out.json",
            )
        sizes = [(Path(folder) / f"out.{kind}").stat().st_size / 2**20 for kind in ("mp4", "json")]
    print(f"{summary.frames_processed} of {count} frames, {summary.status}")
    print(f"video of {sizes[0]:.0f} MiB, results of {sizes[1]:.0f} MiB")
    print("MiB at each tenth of the way:", " ".join(f"{m:.0f}" for m in detector.resident))


if __name__ == "__main__":
    main()
