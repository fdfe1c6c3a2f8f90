"""The detector of a video: from a config to what is found in each frame.

:class:`VideoDetector` is the one way from a config to a results file. What looks at the frames is a
:class:`.detections.FrameDetector`, chosen from its registry by ``VIDEO.DETECTOR``.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msnet_d2.config.refinement import detector_name, is_refined, refines_scores
from msnet_d2.errors import ConfigError
from msnet_d2.utils.image_layout import checked_depth
from msnet_d2.video.detections import FRAME_DETECTOR_REGISTRY, FrameDetector
from msnet_d2.video.pipeline import VideoSummary, process_video
from msnet_d2.video.reader import VideoReader
from msnet_d2.video.results import ModelInfo

if TYPE_CHECKING:
    from msnet_d2.inference.acceleration import InferenceOptions

__all__ = ["DetectorSettings", "VideoDetector"]


@dataclass(frozen=True)
class DetectorSettings:
    """All that a process needs to detect as another one does.

    Attributes:
        config: the whole configuration but its weights, as YAML.
        weights: checkpoint, where every worker finds it.
        batch_size: frames at once.
        stride: every so many frames.
        allow_partial_weights: whether the checkpoint may lack parts of the model.
        acceleration: how the model computes, its precision resolved: workers that choose for
            themselves would differ; None: as Detectron2 computes.
    """

    config: str
    weights: str = ""
    batch_size: int = 1
    stride: int = 1
    allow_partial_weights: bool = False
    acceleration: InferenceOptions | None = None


class VideoDetector:
    """Finds damage in videos: a config, its model, and the frame detector that it names.

    The model is built when the first video is there to be read: a wrong file name is the likelier
    mistake, and found at once. What is pickled are the settings alone.
    """

    def __init__(self, settings: DetectorSettings):
        """Take settings; :meth:`from_config` makes them."""
        self.settings = settings

    @classmethod
    def from_config(
        cls,
        cfg: Any,
        weights: str | Path | None = None,
        *,
        neighbor: str | None = None,
        batch_size: int | None = None,
        stride: int = 1,
        allow_partial_weights: bool = False,
        acceleration: InferenceOptions | None = None,
    ) -> VideoDetector:
        """The detector that a config describes.

        Args:
            cfg: of the model.
            weights: checkpoint; None: ``MODEL.WEIGHTS``.
            neighbor: frames that refine scores, "previous", "next", "both" or "off"; None: as the
                config says.
            batch_size: frames at once; None: 4 on CUDA, else 1.
            stride: look at every so many frames.
            allow_partial_weights: whether the checkpoint may lack parts of the model.
            acceleration: such as ``InferenceOptions.fast()``; None: as Detectron2 computes.

        Raises:
            ConfigError: if ``neighbor`` names a frame and the model is no RefinedDetector, or if
                ``VIDEO.DETECTOR`` is not registered.
        """
        if neighbor not in (None, "off") and not is_refined(cfg):
            raise ConfigError(
                f"`neighbor` {neighbor} needs a RefinedDetector, but MODEL.META_ARCHITECTURE is "
                f"{cfg.MODEL.META_ARCHITECTURE}; leave it out, or use a config such as "
                "msnet_srn_R50_FPN.yaml with weights trained by it"
            )
        _registered(cfg)
        cfg = cfg.clone()
        cfg.defrost()
        weights = str(cfg.MODEL.WEIGHTS if weights is None else weights)
        cfg.MODEL.WEIGHTS = ""
        if neighbor is not None:
            cfg.TEST.SCORE_REFINEMENT.ENABLED = neighbor != "off"
        if neighbor not in (None, "off"):
            cfg.TEST.SCORE_REFINEMENT.NEIGHBORS = neighbor
        if acceleration is not None:
            import torch

            acceleration = acceleration.resolved(torch.device(cfg.MODEL.DEVICE))
        return cls(
            DetectorSettings(
                config=cfg.dump(),
                weights=weights,
                batch_size=batch_size or (4 if cfg.MODEL.DEVICE.startswith("cuda") else 1),
                stride=stride,
                allow_partial_weights=allow_partial_weights,
                acceleration=acceleration,
            )
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self.settings}

    @cached_property
    def cfg(self) -> Any:
        """The config, with the weights."""
        from msnet_d2.config import get_msnet_cfg

        cfg = get_msnet_cfg()
        cfg.merge_from_other_cfg(cfg.load_cfg(self.settings.config))
        cfg.MODEL.WEIGHTS = self.settings.weights
        cfg.freeze()
        return cfg

    @cached_property
    def predictor(self) -> Any:
        """The :class:`~msnet_d2.inference.predictor.Predictor`; built on first use.

        Raises:
            WeightsError: if the weights are missing or do not fit.
        """
        from msnet_d2.inference.predictor import Predictor

        return Predictor(
            self.cfg,
            allow_partial_weights=self.settings.allow_partial_weights,
            acceleration=self.settings.acceleration,
        )

    def frame_detector(self, video_id: str) -> FrameDetector:
        """What looks at the frames of one video."""
        return _registered(self.cfg).from_config(self.cfg, self.predictor, video_id)

    @property
    def model(self) -> ModelInfo:
        """What a results file says of the model."""
        refinement = self.cfg.TEST.SCORE_REFINEMENT
        return ModelInfo(
            weights_sha256=self.predictor.weights_sha256,
            precision=self.predictor.acceleration.precision,
            meta_architecture=detector_name(self.cfg),
            refined_by=refinement.NEIGHBORS if refines_scores(self.cfg) else None,
        )

    def detect(
        self,
        source: str | Path | VideoReader,
        *,
        out: str | Path | None = None,
        results: str | Path | None = None,
        min_score: float = 0.5,
        results_min_score: float = 0.0,
        max_frames: int | None = None,
        progress: bool = False,
    ) -> VideoSummary:
        """Detect in a video; see :func:`.pipeline.process_video`.

        Args:
            source: as :class:`VideoReader` takes it, or an open reader with the detector's stride.
            out: annotated video to write; None: none.
            results: results file to write; None: none.
            min_score: detections with a lower score are not drawn.
            results_min_score: detections with a lower score are not in the results.
            max_frames: end after so many frames.
            progress: show a progress bar.

        Raises:
            VideoError: if the video cannot be read.
            WeightsError: if the weights are missing or do not fit.
        """
        opened = source
        if not isinstance(source, VideoReader):
            depth = checked_depth(self.cfg)
            opened = VideoReader(source, stride=self.settings.stride, depth=depth)
        with opened if opened is not source else nullcontext(source) as reader:
            return process_video(
                reader,
                self.frame_detector(reader.info.name),
                metadata=self.predictor.metadata,
                out=out,
                results=results,
                min_score=min_score,
                results_min_score=results_min_score,
                batch_size=self.settings.batch_size,
                max_frames=max_frames,
                model=self.model,
                progress=progress,
            )


def _registered(cfg: Any) -> Any:
    """The class that ``VIDEO.DETECTOR`` names.

    Raises:
        ConfigError: if there is none of this name.
    """
    name = cfg.VIDEO.DETECTOR
    if name not in FRAME_DETECTOR_REGISTRY:
        known = ", ".join(sorted(name for name, _ in FRAME_DETECTOR_REGISTRY))
        raise ConfigError(f"VIDEO.DETECTOR is {name!r}; there are: {known}")
    return FRAME_DETECTOR_REGISTRY.get(name)
