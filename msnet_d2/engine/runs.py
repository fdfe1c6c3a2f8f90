"""A whole run from a config: training, or the evaluation of a trained model."""

from __future__ import annotations

import os
from collections import OrderedDict

from detectron2.config import CfgNode
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng

from msnet_d2 import __version__
from msnet_d2.checkpoint import checkpoint_to_resume
from msnet_d2.checkpoint.classes import with_classes_of_weights
from msnet_d2.checkpoint.load_weights import load_trained_weights
from msnet_d2.config import write_config
from msnet_d2.data.class_names import with_matched_datasets
from msnet_d2.data.isbda.catalog import with_registered_datasets
from msnet_d2.engine.trainer import MSNetTrainer
from msnet_d2.errors import ConfigError
from msnet_d2.evaluation import METRICS_FILE, undefined_as_none
from msnet_d2.utils.file_io import write_json

__all__ = ["evaluate", "train"]


def train(
    cfg: CfgNode, *, resume: bool = False, allow_partial_weights: bool = False
) -> OrderedDict:
    """Train as ``cfg`` says, evaluate on ``DATASETS.TEST``, and leave everything in ``OUTPUT_DIR``.

    There are then ``config.yaml``, ``model_final.pth``, ``metrics.json`` (a line every 20
    iterations) and ``inference/`` with predictions and ``metrics.json``.

    Args:
        cfg: of :func:`msnet_d2.config.load_config`.
        resume: whether to continue from the last checkpoint in ``OUTPUT_DIR``.
        allow_partial_weights: whether to begin with ``MODEL.WEIGHTS`` that fit less than half of
            the model.

    Returns:
        Task -> metric -> percent; with several test sets, one such dict for each name. Empty
        without a test set, and on all processes but the main one.

    Raises:
        MSNetError: if the config, the data or the weights cannot be used, or training diverged.
    """
    if resume:
        checkpoint_to_resume(cfg)  # before minutes go into building the model
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + comm.get_rank())
    trainer = MSNetTrainer(cfg)
    trainer.checkpointer.allow_partial = allow_partial_weights
    trainer.resume_or_load(resume=resume)
    if comm.is_main_process():
        write_config(_with_data_of(trainer.cfg, cfg))
    results = trainer.train()
    _write_metrics(trainer.cfg, results)
    return results


def evaluate(
    cfg: CfgNode, weights: str | None = None, *, allow_partial_weights: bool = False
) -> OrderedDict:
    """Evaluate a trained model on ``DATASETS.TEST``.

    Predictions, ``metrics.json`` and ``about.json`` (with the SHA-256 of the weights) are left in
    ``OUTPUT_DIR/inference``.

    Args:
        cfg: config of the model.
        weights: a checkpoint; None: ``MODEL.WEIGHTS``.
        allow_partial_weights: whether weights may miss parts of the model, which then stay random.

    Returns:
        As :func:`train`.

    Raises:
        ConfigError: if there is no test set.
        WeightsError: if there are no weights, or they do not fit the model.
    """
    cfg = with_registered_datasets(cfg, for_training=False)
    if not cfg.DATASETS.TEST:
        raise ConfigError("DATASETS.TEST is empty: nothing to evaluate on")
    model = MSNetTrainer.build_model(cfg)
    path = cfg.MODEL.WEIGHTS if weights is None else weights
    digest, classes = load_trained_weights(model, path, allow_partial=allow_partial_weights)
    cfg = with_matched_datasets(with_classes_of_weights(cfg, classes, path))
    results = MSNetTrainer.test(cfg, model)
    if cfg.TEST.AUG.ENABLED:
        results = OrderedDict({**results, **MSNetTrainer.test_with_tta(cfg, model)})
    if comm.is_main_process():
        verify_results(cfg, results)
        about = {
            "msnet_d2": __version__,
            "weights": os.path.basename(path),
            "weights_sha256": digest,
            "datasets": list(cfg.DATASETS.TEST),
        }
        write_json(os.path.join(cfg.OUTPUT_DIR, "inference", "about.json"), about)
    _write_metrics(cfg, results)
    return results


def _with_data_of(trained: CfgNode, cfg: CfgNode) -> CfgNode:
    """``cfg`` with what the training data say of themselves; its specs stay as given."""
    named = cfg.clone()
    named.defrost()
    named.MODEL.CLASS_NAMES = trained.MODEL.CLASS_NAMES
    named.MODEL.CLASS_COLORS = trained.MODEL.CLASS_COLORS
    named.INPUT.TRAIN_IMAGE_SIZE = trained.INPUT.TRAIN_IMAGE_SIZE
    return named


def _write_metrics(cfg: CfgNode, results: OrderedDict) -> None:
    """Keep the metrics; what is undefined is null in JSON."""
    if results and comm.is_main_process():
        path = os.path.join(cfg.OUTPUT_DIR, "inference", METRICS_FILE)
        write_json(path, undefined_as_none(results))
