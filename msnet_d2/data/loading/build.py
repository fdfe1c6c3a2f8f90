"""Mappers and data loaders by name, so that a project brings its own: ``INPUT.MAPPER``,
``DATALOADER.TRAIN_LOADER`` and ``DATALOADER.TEST_LOADER``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, build_detection_test_loader
from fvcore.common.registry import Registry

from msnet_d2.config.refinement import is_refined, refines_scores, trains_embedding_alone
from msnet_d2.data.loading.dataset_mapper import ISBDADatasetMapper
from msnet_d2.data.loading.kind_mappers import (
    AmodalDatasetMapper,
    PanopticDatasetMapper,
    SemanticDatasetMapper,
)
from msnet_d2.data.loading.proposals import check_proposal_files
from msnet_d2.data.loading.samplers import VideoInferenceSampler
from msnet_d2.data.loading.training_checks import check_training_data
from msnet_d2.data.loading.training_loader import TrainingLoader, build_training_loader
from msnet_d2.data.loading.triplets import build_joint_loader, build_triplet_loader
from msnet_d2.errors import DatasetError
from msnet_d2.projects import find_registered

__all__ = [
    "MAPPER_REGISTRY",
    "TEST_LOADER_REGISTRY",
    "TRAIN_LOADER_REGISTRY",
    "build_mapper",
    "build_test_loader",
    "build_train_loader",
]

# Classes or functions (cfg, is_train) -> mapper, which makes of a data set's dict what the model
# takes, as Detectron2's DatasetMapper.
MAPPER_REGISTRY = Registry("MAPPER")
# Functions (cfg) -> loader of endless batches, a list of dicts each. DATASETS.TRAIN are registered
# names. A loader with start_at(iteration, seed) can go on with a resumed training.
TRAIN_LOADER_REGISTRY = Registry("TRAIN_LOADER")
# Functions (cfg, dataset_name) -> loader of a data set's batches, once.
TEST_LOADER_REGISTRY = Registry("TEST_LOADER")

for _mapper in (
    ISBDADatasetMapper,
    AmodalDatasetMapper,
    PanopticDatasetMapper,
    SemanticDatasetMapper,
):
    MAPPER_REGISTRY.register(_mapper)


def build_mapper(cfg: CfgNode, is_train: bool) -> Callable[[dict], dict]:
    """The mapper ``INPUT.MAPPER``.

    Raises:
        ConfigError: if there is none of this name; the message lists those that there are.
    """
    return find_registered(MAPPER_REGISTRY, cfg.INPUT.MAPPER, "INPUT.MAPPER")(cfg, is_train)


def build_train_loader(cfg: CfgNode) -> Iterable[list[Any]]:
    """The loader ``DATALOADER.TRAIN_LOADER``; if that is empty, the one that the model needs.

    Raises:
        ConfigError: if there is none of this name, or the model has other classes than the data.
        DatasetError: if there is nothing to train on.
    """
    name = cfg.DATALOADER.TRAIN_LOADER or _train_loader_for(cfg)
    return find_registered(TRAIN_LOADER_REGISTRY, name, "DATALOADER.TRAIN_LOADER")(cfg)


def build_test_loader(cfg: CfgNode, dataset_name: str) -> Iterable[list[Any]]:
    """The loader ``DATALOADER.TEST_LOADER``; if that is empty, the one that the model needs.

    Raises:
        ConfigError: if there is none of this name.
        DatasetError: if the data set is empty.
    """
    # Refinement needs the frames of a video one after another, on one rank.
    needed = "VideoTestLoader" if refines_scores(cfg) else "ImageTestLoader"
    name = cfg.DATALOADER.TEST_LOADER or needed
    loader = find_registered(TEST_LOADER_REGISTRY, name, "DATALOADER.TEST_LOADER")
    return loader(cfg, dataset_name)


def _train_loader_for(cfg: CfgNode) -> str:
    if not is_refined(cfg):
        return "ImageTrainLoader"
    return "TripletTrainLoader" if trains_embedding_alone(cfg) else "JointTrainLoader"


@TRAIN_LOADER_REGISTRY.register()
def ImageTrainLoader(cfg: CfgNode) -> TrainingLoader:
    """Annotated images, shuffled, mapped by ``INPUT.MAPPER``."""
    check_proposal_files(cfg)
    check_training_data(cfg)
    try:
        return build_training_loader(cfg, build_mapper(cfg, is_train=True))
    except AssertionError as error:  # so Detectron2 tells of an empty data set
        raise DatasetError(f"cannot train on {', '.join(cfg.DATASETS.TRAIN)}: {error}") from error


@TRAIN_LOADER_REGISTRY.register()
def TripletTrainLoader(cfg: CfgNode):
    """Triplets of frames of ``DATASETS.SRN_VIDEOS``, for the score refinement network alone."""
    return build_triplet_loader(cfg)


@TRAIN_LOADER_REGISTRY.register()
def JointTrainLoader(cfg: CfgNode):
    """Annotated images with a triplet of frames each, for detector and refinement at once."""
    return build_joint_loader(cfg, ImageTrainLoader(cfg))


@TEST_LOADER_REGISTRY.register()
def ImageTestLoader(cfg: CfgNode, dataset_name: str):
    """The images of a data set, shared among processes."""
    return _test_loader(cfg, dataset_name)


@TEST_LOADER_REGISTRY.register()
def VideoTestLoader(cfg: CfgNode, dataset_name: str):
    """The frames of each video in order, a whole video in one process."""
    sampler = VideoInferenceSampler(DatasetCatalog.get(dataset_name))
    return _test_loader(cfg, dataset_name, sampler=sampler)


def _test_loader(cfg: CfgNode, dataset_name: str, **options):
    check_proposal_files(cfg)
    mapper = build_mapper(cfg, is_train=False)
    try:
        return build_detection_test_loader(cfg, dataset_name, mapper=mapper, **options)
    except AssertionError as error:
        raise DatasetError(f"cannot evaluate on {dataset_name}: {error}") from error
