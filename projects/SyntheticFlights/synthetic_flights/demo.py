"""The demo: from nothing to a trained, evaluated MSNet and pictures of what it finds.

Each step leaves a mark with the settings it ran under; a step whose mark matches is not run again,
so an interrupted demo goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from msnet_d2 import __version__
from msnet_d2.errors import InputError
from msnet_d2.utils.file_io import write_json, write_text
from msnet_d2.utils.locks import hold
from msnet_d2.utils.output_folder import keep_aside

__all__ = ["Demo", "DemoSettings"]

logger = logging.getLogger(__name__)

CONFIG = "quick/msnet_parents_lite0_FPN.yaml"
SRN_CONFIG = "quick/msnet_srn_steady_lite0_FPN.yaml"
_MARK = ".{step}.done.json"


@dataclass(frozen=True)
class DemoSettings:
    """What the demo makes and how long it trains.

    Attributes:
        videos, val_videos: flights in all, and how many of them are kept for evaluation.
        seconds, fps: length and frame rate of each.
        every: one annotated frame of so many.
        clips, clip_seconds: flights with video besides, for score refinement: all but one train it,
            the last is the clip that is shown. A triplet needs a frame 10 s away.
        size: width and height of the frames.
        seed: of the scenes, and of the trainings (SEED) unless ``opts`` give another.
        config, srn_config: config files of the detector and of score refinement.
        opts: overrides of both configs, a flat list of keys and values.
        pictures: how many frames are drawn.
    """

    videos: int = 28
    val_videos: int = 6
    seconds: float = 6.0
    fps: float = 10.0
    every: int = 5
    clips: int = 3
    clip_seconds: float = 12.0
    size: tuple[int, int] = (960, 540)
    seed: int = 7
    config: str = CONFIG
    srn_config: str = SRN_CONFIG
    opts: tuple[str, ...] = ()
    pictures: int = 6


@dataclass
class Demo:
    """A run of the demo in the folder ``out``; see :meth:`run`."""

    out: Path
    settings: DemoSettings = field(default_factory=DemoSettings)
    workers: int = 2
    progress: bool = True
    seconds_of: dict[str, float] = field(default_factory=dict)
    _changed: bool = False

    def run(self) -> dict[str, Any]:
        """Run all steps that have not been run.

        Returns:
            Figures of the evaluation: task -> figure -> percent.

        Raises:
            InputError: if ``out`` holds something else.
            OutputError: if another run writes to it.
        """
        with hold(self.out, "the demo"):
            return self._run()

    def _run(self) -> dict[str, Any]:
        self._claim_folder()
        self._step("flights", "Synthesising flights", self._synthesize)
        self._step("detector", "Training MSNet", self._train)
        self._step("figures", "Evaluating on unseen flights", self._evaluate)
        self._step("pictures", "Drawing", self._draw)
        self._step("srn", "Training score refinement", self._train_srn)
        self._step("refined", "Evaluating with refined scores", self._evaluate_refined)
        self._step("clip", "Marking an unseen flight", self._mark_clip)
        self._step("map", "Mapping its damage", self._map_clip)
        return self._report()

    @property
    def data(self) -> Path:
        """Folder of the flights, in ISBDA's layout."""
        return self.out / "data"

    @property
    def clips(self) -> Path:
        """Folder of the flights with video."""
        return self.out / "flights"

    @property
    def model(self) -> Path:
        """Folder of the trained detector."""
        return self.out / "model"

    @property
    def srn(self) -> Path:
        """Folder of the same detector with score refinement."""
        return self.out / "model_srn"

    # --- steps

    def _synthesize(self) -> None:
        from tqdm import tqdm

        from synthetic_flights.config import SceneConfig
        from synthetic_flights.writer import DatasetPlan, write_dataset

        s = self.settings
        scene = SceneConfig(
            width=s.size[0], height=s.size[1], seconds=s.seconds, fps=s.fps, seed=s.seed
        )
        # The clips are other scenes: nobody has trained on what is shown.
        sensor = replace(scene, seconds=s.clip_seconds, seed=s.seed + 1)
        plans = [
            DatasetPlan(self.data, scene, s.videos, s.val_videos, s.every, write_videos=False),
            DatasetPlan(self.clips, sensor, s.clips, 1, s.every),
        ]
        frames = sum(plan.videos * plan.scene.num_frames for plan in plans)
        with tqdm(total=frames, unit="frame", desc="rendering", disable=not self.progress) as bar:
            for plan in plans:
                write_dataset(replace(plan, workers=self.workers, overwrite=True), bar.update)

    def _train(self) -> None:
        from msnet_d2.engine import train

        keep_aside(self.model, self.model)
        train(self._config(self.settings.config, self.model, **{"DATASETS.TEST": ()}))

    def _evaluate(self) -> None:
        from msnet_d2.engine import evaluate

        evaluate(self._config(self.settings.config, self.model), str(self._weights(self.model)))

    def _train_srn(self) -> None:
        from msnet_d2.engine import train

        keep_aside(self.srn, self.srn)
        videos = sorted((self.clips / "videos").glob("*.mp4"))[:-1]
        overrides = {
            "MODEL.WEIGHTS": str(self._weights(self.model)),
            "DATASETS.SRN_VIDEOS": tuple(map(str, videos)),
            "DATASETS.TEST": (),
        }
        train(self._refined_config(**overrides))

    def _evaluate_refined(self) -> None:
        from msnet_d2.engine import evaluate

        evaluate(self._refined_config(), str(self._weights(self.srn)))

    def _draw(self) -> None:
        import cv2
        from detectron2.data import DatasetCatalog, MetadataCatalog

        from msnet_d2.data import resolve_dataset
        from msnet_d2.inference.predictor import Predictor
        from msnet_d2.visualization.draw import (
            contact_sheet,
            draw_dataset_dict,
            draw_instance_predictions,
            side_by_side,
        )

        (name,) = resolve_dataset(f"{self.data}:val")
        frames, metadata = DatasetCatalog.get(name), MetadataCatalog.get(name)
        predictor = Predictor(
            self._config(
                self.settings.config,
                self.model,
                **{"MODEL.WEIGHTS": str(self._weights(self.model))},
            ),
            metadata=metadata,
        )
        folder = self.out / "pictures"
        keep_aside(folder, folder)
        folder.mkdir(parents=True)
        pairs = []
        for frame in _spread(frames, self.settings.pictures):
            image = cv2.imread(frame["file_name"])
            output = predictor(image)
            pair = side_by_side(
                draw_dataset_dict(image, frame, metadata=metadata),
                draw_instance_predictions(
                    image, output["instances"].to("cpu"), metadata=metadata, min_score=0.5
                ),
            )
            cv2.imwrite(str(folder / Path(frame["file_name"]).name), pair)
            pairs.append(pair)
        cv2.imwrite(str(self.out / "pictures.jpg"), contact_sheet(pairs, 1, cell_width=1280))

    @property
    def clip(self) -> Path:
        """The flight that is shown: the last one, which no model was trained on."""
        return sorted((self.clips / "videos").glob("*.mp4"))[-1]

    def _mark_clip(self) -> None:
        from msnet_d2.config import load_config
        from msnet_d2.inference.acceleration import InferenceOptions
        from msnet_d2.video.detector import VideoDetector

        detector = VideoDetector.from_config(
            load_config(self.srn / "config.yaml"),
            self._weights(self.srn),
            acceleration=InferenceOptions.fast(),
        )
        summary = detector.detect(
            self.clip,
            out=self.out / "clip.mp4",
            results=self.out / "clip.json",
            progress=self.progress,
        )
        if not summary.report.is_complete or summary.status == "interrupted":
            problems = "; ".join(summary.report.problems()) or "interrupted"
            raise InputError(f"{self.clip} could not be marked: {problems}")
        self._draw_strip()

    def _map_clip(self) -> None:
        from msnet_d2.damage_map.pipeline import make_map

        summary = make_map([self.clip], self.out / "map", results=[self.out / "clip.json"])
        if summary.problems:
            raise InputError(f"{self.clip} could not be mapped: {'; '.join(summary.problems)}")

    def _draw_strip(self) -> None:
        """Four adjacent frames of the marked clip as one picture: scores with their arrows."""
        import cv2

        from msnet_d2.video.reader import VideoReader
        from msnet_d2.video.results import read_results
        from msnet_d2.visualization.draw import contact_sheet

        changed = [
            sum(
                found.score_raw is not None
                and abs(found.score - found.score_raw) > 0.02
                and found.score >= 0.5
                for found in frame.instances
            )
            for frame in read_results(self.out / "clip.json").frames
        ]
        start = max(range(max(1, len(changed) - 3)), key=lambda i: sum(changed[i : i + 4]))
        with VideoReader(str(self.out / "clip.mp4")) as reader:
            frames = [frame.image for frame in reader if start <= frame.index < start + 4]
        cv2.imwrite(str(self.out / "strip.jpg"), contact_sheet(frames, 2, cell_width=800))

    def _report(self) -> dict[str, Any]:
        figures = _figures(self.model)
        refined = _figures(self.srn)
        settings = json.loads(json.dumps(asdict(self.settings)))
        write_json(
            self.out / "metrics.json",
            {
                "version": __version__,
                "settings": settings,
                "figures": figures,
                "figures_refined": refined,
                "seconds": self.seconds_of,
            },
        )
        table = _table(figures, refined)
        seconds = "\n".join(f"- {name}: {value:.0f} s" for name, value in self.seconds_of.items())
        total = sum(self.seconds_of.values())
        write_text(
            self.out / "README.md",
            f"# MSNet demo\n\nmsnet_d2 {__version__}, config `{self.settings.config}`, evaluated "
            f"on {self.settings.val_videos} flights that were not trained on. Percent.\n\n{table}\n"
            "\n![ground truth and prediction](pictures.jpg)\n\nFour frames of `clip.mp4`; an "
            "arrow says that the score was refined, and which way:\n\n"
            "![frames of the clip](strip.jpg)\n\n"
            "The same flight as a damage map, with tables and files for GIS and phones: "
            "[map/index.html](map/index.html)\n\n"
            f"Time, {total:.0f} s in all:\n\n{seconds}\n",
        )
        print(f"\nOn {self.settings.val_videos} unseen flights, in percent:\n\n{table}\n")
        print(f"Pictures, ground truth beside prediction: {self.out / 'pictures.jpg'}")
        print(f"An unseen flight with refined scores:     {self.out / 'clip.mp4'}")
        print(f"Its damage on a map, for a browser:       {self.out / 'map' / 'index.html'}")
        print(f"All of it:                                {self.out / 'README.md'}")
        print(
            "Try the model on a picture of yours:\n  msnet predict PICTURE --config-file "
            f"{self.model / 'config.yaml'} --out {self.out / 'mine'}"
        )
        return figures

    # --- how steps are run

    @staticmethod
    def _weights(folder: Path) -> Path:
        return folder / "model_final.pth"

    def _config(self, config: str, folder: Path, **overrides: Any):
        """The config on the demo's data, with its output in ``folder``."""
        from msnet_d2.config import load_config

        values = {
            "DATASETS.TRAIN": (f"{self.data}:train",),
            "DATASETS.TEST": (f"{self.data}:val",),
            "OUTPUT_DIR": str(folder),
            **overrides,
        }
        cfg = load_config(config, ["SEED", self.settings.seed, *self.settings.opts]).clone()
        cfg.defrost()
        cfg.merge_from_list([item for pair in values.items() for item in pair])
        cfg.freeze()
        return cfg

    def _refined_config(self, **overrides: Any):
        """The config of score refinement, on a detector built as the one that was trained."""
        cfg = self._config(self.settings.srn_config, self.srn, **overrides).clone()
        cfg.defrost()
        cfg.MODEL.HRPN = self._config(self.settings.config, self.model).MODEL.HRPN.clone()
        cfg.freeze()
        return cfg

    def _step(self, name: str, title: str, action: Callable[[], None]) -> None:
        mark = self.out / _MARK.format(step=name)
        wanted = self._signature(name)
        if mark.is_file() and not self._changed:
            done = json.loads(mark.read_text())
            if done.get("signature") == wanted:
                self.seconds_of[title] = done["seconds"]
                print(f"== {title}: done before ({done['seconds']:.0f} s)", flush=True)
                return
        self._changed = True  # what follows was made from something else
        mark.unlink(missing_ok=True)
        print(f"== {title}", flush=True)
        start = time.monotonic()
        action()
        self.seconds_of[title] = time.monotonic() - start
        write_json(mark, {"signature": wanted, "seconds": self.seconds_of[title]})
        print(f"   {self.seconds_of[title]:.0f} s", flush=True)

    def _signature(self, step: str) -> str:
        """Changes with whatever the step's result depends on."""
        from msnet_d2.config import find_config

        settings = asdict(self.settings)
        texts = []
        if step == "flights":
            for name in ("config", "srn_config", "opts", "pictures"):
                del settings[name]
        else:
            names = (self.settings.config, self.settings.srn_config)
            texts = [find_config(name).read_text() for name in names]
        content = json.dumps([__version__, settings, texts], sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()

    def _claim_folder(self) -> None:
        if self.out.exists() and not self.out.is_dir():
            raise InputError(f"--out {self.out} is a file; expected a folder or a new name")
        ours = any(self.out.glob(_MARK.format(step="*"))) or (self.out / "data").is_dir()
        if self.out.is_dir() and any(self.out.iterdir()) and not ours:
            raise InputError(
                f"--out {self.out} holds other files; name an empty or a new folder for the demo"
            )
        self.out.mkdir(parents=True, exist_ok=True)


def _spread(items: list, count: int) -> list:
    """``count`` items at equal distances, the first and last ones left aside."""
    count = min(count, len(items))
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]


def _figures(folder: Path) -> dict[str, dict[str, float | None]]:
    from msnet_d2.evaluation import read_metrics

    return read_metrics(folder / "inference")


def _table(figures: dict, refined: dict) -> str:
    """The figures of ISBDA's protocol as a Markdown table; a dash where one is undefined."""
    from tabulate import tabulate

    columns = ["AP", "AP25", "AP50", "APs", "APm", "APl", "AP-Slight", "AP-Severe", "AP-Debris"]
    rows = []
    for title, source, task in (
        ("damage masks", figures, "isbda_segm"),
        ("damage masks, refined scores", refined, "isbda_segm"),
        ("damage boxes", figures, "isbda_bbox"),
        ("damage boxes, refined scores", refined, "isbda_bbox"),
        ("buildings", figures, "isbda_parent"),
    ):
        values = [source.get(task, {}).get(column) for column in columns]
        rows.append([title, *("–" if v is None else f"{v:.1f}" for v in values)])
    return tabulate(rows, ["", *columns], tablefmt="github", disable_numparse=True)
