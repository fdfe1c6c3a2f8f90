"""A clip marked: `msnet video` against a loop of DefaultPredictor and VideoVisualizer.

Both read the same frames, run the same trained model, draw what scores at least 0.5, and write a
video; ours writes its results file too. The loop is that of Detectron2's demo.

  python benchmarks/video.py --config-file output/demo/model/config.yaml \
      --weights output/demo/model/model_final.pth --video flight.mp4 --frames 12
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
from alternation import alternate, print_table, use_threads
from detectron2.engine import DefaultPredictor
from detectron2.utils.video_visualizer import VideoVisualizer

from msnet_d2.config import load_config
from msnet_d2.inference.acceleration import InferenceOptions
from msnet_d2.inference.predictor import Predictor, metadata_for
from msnet_d2.video.detections import StreamDetector
from msnet_d2.video.pipeline import process_video
from msnet_d2.video.reader import VideoReader


def loop(predictor, metadata, video: str, out: Path, frames: int) -> None:
    """As Detectron2's demo does."""
    source = cv2.VideoCapture(video)
    visualizer = VideoVisualizer(metadata)
    writer = None
    for _ in range(frames):
        ok, frame = source.read()
        if not ok:
            break
        found = predictor(frame)["instances"].to("cpu")
        found = found[found.scores >= 0.5]
        drawn = visualizer.draw_instance_predictions(frame[:, :, ::-1], found)
        drawn = cv2.cvtColor(drawn.get_image(), cv2.COLOR_RGB2BGR)
        if writer is None:
            size = drawn.shape[1::-1]
            writer = cv2.VideoWriter(str(out), cv2.VideoWriter_fourcc(*"mp4v"), 25, size)
        writer.write(drawn)
    writer.release()


def ours(predictor, metadata, video: str, out: Path, frames: int) -> None:
    """As `msnet video` does."""
    with VideoReader(video) as reader:
        process_video(
            reader,
            StreamDetector(predictor),
            metadata=metadata,
            out=out,
            results=out.with_suffix(".json"),
            max_frames=frames,
        )


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--video", required=True)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    use_threads()
    cfg = load_config(args.config_file, ["MODEL.WEIGHTS", args.weights], device="cpu")
    metadata = metadata_for(cfg)
    theirs = DefaultPredictor(cfg)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for label, how in (
            ("float32", InferenceOptions.fast("float32")),
            ("auto", InferenceOptions.fast()),
        ):
            predictor = Predictor(cfg, acceleration=how)
            rest = (metadata, args.video)
            taken = alternate(
                lambda rest=rest: loop(theirs, *rest, Path(folder) / "theirs.mp4", args.frames),
                lambda rest=rest, p=predictor: ours(
                    p, *rest, Path(folder) / "ours.mp4", args.frames
                ),
                args.rounds,
            )
            taken = type(taken)(taken.theirs / args.frames, taken.ours / args.frames)
            rows.append([f"ours in {label}", *taken.cells(0)])
    print_table(["a frame, ms of processor time", "the loop", "msnet video", "ratio"], rows)


if __name__ == "__main__":
    main()
