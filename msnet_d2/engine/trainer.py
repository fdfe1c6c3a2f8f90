"""Detectron2's trainer with this package's data, evaluators and guards."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import weakref
from collections import OrderedDict
from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, TrainerBase, create_ddp_model, hooks
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import GeneralizedRCNNWithTTA, build_model
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, EventWriter, TensorboardXWriter
from torch import nn

from msnet_d2.checkpoint import checkpoint_to_resume
from msnet_d2.checkpoint.checkpointer import MSNetCheckpointer
from msnet_d2.checkpoint.classes import ModelClasses, with_classes_of_weights
from msnet_d2.config.refinement import detector_name, trains_embedding_alone
from msnet_d2.config.registered import check_registered
from msnet_d2.data.class_names import with_matched_datasets, with_training_data
from msnet_d2.data.loading.build import build_test_loader, build_train_loader
from msnet_d2.engine.hooks import FiniteWeights, SeededSteps, check_gradients
from msnet_d2.engine.optimizer import build_optimizer
from msnet_d2.engine.progress import ProgressBar, ProgressLoader, on_terminal
from msnet_d2.engine.train_loop import RememberLastBatch, build_loop
from msnet_d2.errors import ConfigError, MSNetError, TrainingError
from msnet_d2.evaluation.build import build_evaluator
from msnet_d2.evaluation.refining import RefiningEvaluator
from msnet_d2.modeling.proposal_generator.hierarchical_rpn import HierarchicalRPN
from msnet_d2.modeling.soft_nms import add_mask_soft_nms
from msnet_d2.score_refinement.build import build_score_refiner
from msnet_d2.score_refinement.refined_detector import detector_of

__all__ = ["MSNetTrainer"]

logger = logging.getLogger(__name__)


class MSNetTrainer(DefaultTrainer):
    """Detectron2's trainer: registered loaders and evaluators, a choice of optimiser, guards.

    ``DATASETS.TRAIN`` and ``TEST`` may hold specs such as ``output/demo/data:train``. A loss or
    weight that is not finite ends the training with the iteration and the images, and is never
    saved.
    """

    def __init__(self, cfg: CfgNode):
        """Build model, optimiser, loader, checkpointer and hooks.

        Raises:
            ConfigError: if ``cfg`` cannot be trained.
            DatasetError: if a data set is unknown or has nothing to train on.
        """
        # DefaultTrainer's own constructor is left out on purpose: it leaves no choice of the loop
        # and the checkpointer. What its other methods use is set here.
        TrainerBase.__init__(self)
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        _check_trainable(cfg)
        cfg = with_training_data(cfg)
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        loader = RememberLastBatch(self.build_train_loader(cfg))
        on_cuda = torch.device(cfg.MODEL.DEVICE).type == "cuda"
        # On a CPU, DDP takes no device ids.
        devices = {} if on_cuda else {"device_ids": None}
        model = create_ddp_model(model, broadcast_buffers=False, **devices)
        self._trainer = build_loop(cfg, model, loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = MSNetCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.checkpointer.classes = ModelClasses.of_config(cfg)
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self._last_eval_results: OrderedDict = OrderedDict()
        self._failed = False
        self.seed: int = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
        # After the loss has been looked at, and with mixed precision after gradients are unscaled.
        # By a weak reference: the optimiser would keep the trainer alive, and both the memory.
        this = weakref.proxy(self)
        optimizer.register_step_pre_hook(lambda *_: check_gradients(this))
        self._start_data()
        self.register_hooks(self.build_hooks())

    def resume_or_load(self, resume: bool = True) -> None:
        """Continue from ``OUTPUT_DIR``'s last checkpoint, or load ``MODEL.WEIGHTS``.

        Raises:
            ConfigError: if ``resume`` and there is no checkpoint. (Detectron2 starts afresh.)
        """
        if resume:
            checkpoint_to_resume(self.cfg)
        super().resume_or_load(resume)
        self._take_classes(self.checkpointer.loaded_classes, resume=resume)
        self._start_data()

    def _take_classes(self, loaded: ModelClasses, *, resume: bool) -> None:
        """Set the names of the loaded classes against those that are trained."""
        own = self.checkpointer.classes
        if not own.names and loaded.names:
            self.cfg = with_classes_of_weights(self.cfg, loaded, self.cfg.MODEL.WEIGHTS)
            self.checkpointer.classes = loaded
        elif own.names and loaded.names and not loaded.same_names(own.names):
            text = (
                f"weights of the classes {', '.join(loaded.names)}, data of {', '.join(own.names)}"
            )
            if resume:
                raise ConfigError(
                    f"cannot resume in {self.cfg.OUTPUT_DIR}: {text}; name the data of that "
                    "training, or set another OUTPUT_DIR"
                )
            logger.warning("Before this training %s", text)

    def _start_data(self) -> None:
        """Let the data go on where the training does."""
        if hasattr(self.data_loader, "start_at"):
            self.data_loader.start_at(self.start_iter, self.seed)
        elif self.start_iter:
            logger.warning("This data loader cannot go on: it begins with the first data again")

    def state_dict(self) -> dict:
        """What is saved beside the weights: also the seed, for a run that chose its own."""
        return {**super().state_dict(), "seed": self.seed}

    def load_state_dict(self, state_dict: dict) -> None:
        """Take up what :meth:`state_dict` gave."""
        super().load_state_dict(state_dict)
        self.seed = state_dict.get("seed", self.seed)

    def train(self) -> OrderedDict:
        """Train from ``start_iter`` to ``SOLVER.MAX_ITER`` and evaluate as the config says.

        Returns:
            Results of the last evaluation, see :meth:`test`; empty without ``DATASETS.TEST``, and
            on all processes but the main one.

        Raises:
            TrainingError: if a loss or weight is not finite any more.
        """
        quiet = _NoTracebackOfOurs()
        loop_logger = logging.getLogger("detectron2.engine.train_loop")
        loop_logger.addFilter(quiet)
        try:
            super().train()
        finally:
            loop_logger.removeFilter(quiet)
        return self._last_eval_results

    def run_step(self) -> None:
        """Run one step; say which images it failed on if a loss is not finite."""
        try:
            super().run_step()
        except TrainingError:
            self._failed = True
            raise
        except FloatingPointError as error:
            self._failed = True
            raise TrainingError(
                f"training diverged at iteration {self.iter}: {_one_line(error)}; "
                f"images: {self.data_loader.describe()}; lower SOLVER.BASE_LR, or check the data "
                "with msnet check"
            ) from error
        except Exception:
            self._failed = True
            raise

    def after_train(self) -> None:
        """End the hooks; after a failure without evaluating, which could only hide the failure."""
        if self._failed:
            self._hooks: list = [
                hook for hook in self._hooks if not isinstance(hook, hooks.EvalHook)
            ]
        super().after_train()

    def build_hooks(self) -> list[hooks.HookBase]:
        """Detectron2's hooks, the guard of checkpoints, the progress bar, evaluation with TTA."""
        built = [SeededSteps(), *(hook for hook in super().build_hooks() if hook is not None)]
        if comm.is_main_process():
            saver = next(
                n for n, hook in enumerate(built) if isinstance(hook, hooks.PeriodicCheckpointer)
            )
            built.insert(saver, FiniteWeights(self.cfg.SOLVER.CHECKPOINT_PERIOD))
            built.append(ProgressBar(disable=not on_terminal()))
        if self.cfg.TEST.AUG.ENABLED:
            writer = next(
                (n for n, hook in enumerate(built) if isinstance(hook, hooks.PeriodicWriter)),
                len(built),
            )
            built.insert(writer, hooks.EvalHook(0, self._test_with_tta))
        return built

    def _test_with_tta(self) -> OrderedDict:
        results = self.test_with_tta(self.cfg, self.model)
        self._last_eval_results = OrderedDict({**self._last_eval_results, **results})
        return results

    def build_writers(self) -> list[EventWriter]:
        """Detectron2's writers; the bar stands for its lines, and TensorBoard may be missing."""
        unwanted = () if not on_terminal() else (CommonMetricPrinter,)
        if importlib.util.find_spec("tensorboard") is None:
            unwanted = (*unwanted, TensorboardXWriter)
        return [writer for writer in super().build_writers() if not isinstance(writer, unwanted)]

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The model; its size is logged, its hundreds of layers only for those who debug."""
        check_registered(cfg)
        model = add_mask_soft_nms(build_model(cfg), cfg)
        _check_proposal_generator(cfg, model)
        size = sum(parameter.numel() for parameter in model.parameters())
        logger.info("%s, %.1f million parameters", type(model).__name__, size / 1e6)
        logger.debug("Model:\n%s", model)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """See :func:`msnet_d2.engine.optimizer.build_optimizer`."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode):
        """See :func:`msnet_d2.data.loading.build.build_train_loader`."""
        return build_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str):
        """:func:`msnet_d2.data.loading.build.build_test_loader` with a progress bar."""
        loader = build_test_loader(cfg, dataset_name)
        return ProgressLoader(loader, "evaluating", visible=comm.is_main_process())

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None
    ) -> DatasetEvaluator:
        """See :func:`msnet_d2.evaluation.build.build_evaluator`; refining scores if asked."""
        folder = output_folder or _inference_folder(cfg, dataset_name)
        evaluator = build_evaluator(cfg, dataset_name, folder)
        refiner = build_score_refiner(cfg)
        return evaluator if refiner is None else RefiningEvaluator(evaluator, refiner)

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: DatasetEvaluator | Sequence[DatasetEvaluator] | None = None,
    ) -> OrderedDict:
        """Evaluate ``model`` on ``DATASETS.TEST``, which may hold specs.

        Returns:
            Task -> figure -> percent; with several data sets, one such dict for each name.
        """
        return super().test(with_matched_datasets(cfg), model, evaluators)

    @classmethod
    def test_with_tta(cls, cfg: CfgNode, model: nn.Module) -> OrderedDict:
        """Evaluate with test-time augmentation (``TEST.AUG``); the tasks' names end in ``_TTA``."""
        cfg = with_matched_datasets(cfg)
        logger.info("Evaluating with test-time augmentation")
        evaluators = [
            cls.build_evaluator(cfg, name, _inference_folder(cfg, name, "inference_TTA"))
            for name in cfg.DATASETS.TEST
        ]
        merged = GeneralizedRCNNWithTTA(cfg, detector_of(model))
        results = cls.test(cfg, add_mask_soft_nms(merged, cfg), evaluators)
        return OrderedDict((f"{name}_TTA", value) for name, value in results.items())


class _NoTracebackOfOurs(logging.Filter):
    """Drop what Detectron2 logs of an error that the command line shows as one line."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (
            record.exc_info and isinstance(record.exc_info[1], (MSNetError, FloatingPointError))
        )


def _one_line(error: FloatingPointError) -> str:
    """What Detectron2 says of a loss, its numbers as people write them."""
    text = " ".join(str(error).split())
    return re.sub(r"np\.float64\(([^)]+)\)", lambda match: f"{float(match[1]):.4g}", text)


def _check_trainable(cfg: CfgNode) -> None:
    only_triplets = trains_embedding_alone(cfg)
    # A loader of a project may have its own sources.
    if not (cfg.DATASETS.TRAIN or only_triplets or cfg.DATALOADER.TRAIN_LOADER):
        raise ConfigError("DATASETS.TRAIN is empty: name a data set, such as FOLDER:train")
    if only_triplets and not cfg.MODEL.SRN.FC_DIMS:
        raise ConfigError(
            "MODEL.SRN.FC_DIMS is empty: the embedding are the detector's features, and nothing "
            "has to be trained; use the detector's checkpoint with this config"
        )
    if only_triplets and not cfg.MODEL.WEIGHTS:
        raise ConfigError(
            "MODEL.WEIGHTS is empty: the score refinement network is trained on the features of a "
            "trained detector; give its checkpoint, or set MODEL.SRN.FREEZE_DETECTOR False"
        )
    if cfg.SOLVER.MAX_ITER < 1:
        raise ConfigError(f"SOLVER.MAX_ITER is {cfg.SOLVER.MAX_ITER}; at least 1 is needed")
    batch, processes = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    if batch < processes or batch % processes:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH is {batch}, which {processes} processes cannot share equally"
        )


def _check_proposal_generator(cfg: CfgNode, model: nn.Module) -> None:
    """Detectron2's one-stage detectors ignore the key, and would be taken for hierarchical ones."""
    name = cfg.MODEL.PROPOSAL_GENERATOR.NAME
    if name == "HierarchicalRPN" and not any(
        isinstance(module, HierarchicalRPN) for module in model.modules()
    ):
        raise ConfigError(
            f"MODEL.PROPOSAL_GENERATOR.NAME is {name}, but {detector_name(cfg)} has no proposal "
            "generator; set it to RPN, or take MSNet or GeneralizedRCNN"
        )


def _inference_folder(cfg: CfgNode, dataset_name: str, name: str = "inference") -> str:
    """Folder of predictions: Detectron2's own, and one below it for each of several data sets."""
    folder = os.path.join(cfg.OUTPUT_DIR, name)
    if len(cfg.DATASETS.TEST) > 1:
        folder = os.path.join(folder, re.sub(r"[^\w.-]+", "_", dataset_name).strip("_"))
    return folder
