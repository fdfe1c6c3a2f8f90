"""An evaluator of parts and their parents, by ISBDA's protocol and by COCO's."""

from __future__ import annotations

import itertools
import logging
import os
from collections import Counter, OrderedDict
from collections.abc import Sequence

import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from msnet_d2.errors import DatasetError, InputError, WeightsError
from msnet_d2.evaluation.coco_backends import BACKENDS, default_backend
from msnet_d2.evaluation.ground_truth import GroundTruth, load_ground_truth
from msnet_d2.evaluation.protocol import MAX_DETECTIONS
from msnet_d2.evaluation.results import (
    PARENTS_FILE,
    RESULTS_FILE,
    instances_to_results,
    parents_to_results,
)
from msnet_d2.evaluation.scoring import TASKS, applicable_tasks, score_results
from msnet_d2.evaluation.tables import results_table
from msnet_d2.utils.file_io import write_json

__all__ = ["ISBDAEvaluator"]


class ISBDAEvaluator(DatasetEvaluator):
    """Evaluate damaged parts, and the buildings they lie in, by ISBDA's protocol and by COCO's.

    Metrics are percentages. ``bbox`` and ``segm`` are COCO's; ``isbda_bbox`` and ``isbda_segm`` the
    paper's (section 5.1); ``isbda_parent`` compares the model's buildings with the labelled ones,
    each once; ``isbda_part_parent`` the building box of every part, under the part's level and
    score, as the paper's authors do. A model that predicts no buildings, such as a stock Mask
    R-CNN, is evaluated without the last two.

    Ground truth comes from the registered data set itself. (Detectron2's evaluator reads the JSON,
    which in ISBDA has no ``bbox``, or a conversion that an earlier run left on the disk.)
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: Sequence[str] | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        max_dets_per_image: int | None = None,
        backend: str | None = None,
    ):
        """Load the ground truth.

        Args:
            dataset_name: a registered data set.
            tasks: names out of :data:`msnet_d2.evaluation.TASKS`; None: all that the predictions
                allow.
            distributed: whether to gather the predictions of all ranks; otherwise each rank scores
                its own.
            output_dir: where the predictions are written as COCO results JSON before they are
                scored.
            max_dets_per_image: best detections of an image and a level that count; None: 100, as in
                COCO.
            backend: ``"faster_coco_eval"`` or ``"pycocotools"``; None: the first that is installed.

        Raises:
            InputError: for an unknown task or backend.
        """
        unknown = [name for name in tasks or () if name not in TASKS]
        if unknown:
            raise InputError(f"task {unknown[0]!r} is unknown; there are: {', '.join(TASKS)}")
        if backend is not None and backend not in BACKENDS:
            raise InputError(f"backend {backend!r} is unknown; there are: {', '.join(BACKENDS)}")
        self._logger = logging.getLogger(__name__)
        self._dataset_name = dataset_name
        self._truth = load_ground_truth(dataset_name)
        self._tasks = tasks
        self._distributed = distributed
        self._output_dir = output_dir
        self._max_detections = max_dets_per_image or MAX_DETECTIONS
        self._backend = backend or default_backend()
        self._predictions: list[dict] = []

    def reset(self) -> None:
        """Forget the predictions of the run before."""
        self._predictions = []

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Keep what will be scored, masks as RLE.

        Args:
            inputs: the model's inputs, with ``image_id`` and, for messages, ``file_name``.
            outputs: the model's outputs, with ``instances`` and optionally ``parents``.

        Raises:
            InputError: if an output has no instances.
            WeightsError: if a score or a box is not a number.
        """
        for source, output in zip(inputs, outputs):
            image_id = source["image_id"]
            if "instances" not in output:
                raise InputError(
                    f"the model gives {', '.join(output) or 'nothing'}, no instances; evaluate "
                    "proposals with Detectron2's COCOEvaluator"
                )
            instances = output["instances"].to("cpu")
            _check_finite(instances, source)
            record: dict = {
                "image_id": image_id,
                "instances": instances_to_results(instances, image_id, self._truth.category_ids),
                "fields": set(instances.get_fields()),
            }
            if "parents" in output:
                parents = output["parents"].to("cpu")
                _check_finite(parents, source)
                record["parents"] = parents_to_results(parents, image_id)
            self._predictions.append(record)

    def evaluate(self, img_ids: Sequence[int] | None = None) -> OrderedDict:
        """Gather all ranks' predictions, write them to ``output_dir``, and score them.

        Args:
            img_ids: the images to evaluate on; None: the whole data set.

        Returns:
            Task -> metric -> percent on the main process, ``{}`` on the others, and for a data set
            without annotations.

        Raises:
            DatasetError: if an image is missing, was seen twice, or is not in the data set.
        """
        records = self._predictions
        if self._distributed:
            comm.synchronize()
            gathered = comm.gather(records, dst=0)
            if not comm.is_main_process():
                return OrderedDict()
            records = list(itertools.chain(*gathered))
        _check_images(records, self._truth, img_ids)

        results = [entry for record in records for entry in record["instances"]]
        parents = None
        if any("parents" in record for record in records):
            parents = [entry for record in records for entry in record.get("parents", ())]
        self._write(results, parents)
        if not self._truth.annotated:
            self._logger.info("%s has no annotations to compare with", self._dataset_name)
            return OrderedDict()
        if not results:
            self._logger.warning("The model found nothing in %d images", len(records))
        fields = set().union(*(record["fields"] for record in records))
        tasks = self._tasks or applicable_tasks(
            self._truth,
            masks="pred_masks" in fields,
            parents=parents is not None,
            part_parents="pred_parent_boxes" in fields,
        )
        self._logger.info(
            "Comparing with %s by %s ...", self._dataset_name or "ground truth", self._backend
        )
        metrics = score_results(
            self._truth,
            results,
            parents,
            tasks=tasks,
            max_detections=self._max_detections,
            backend=self._backend,
            image_ids=img_ids,
        )
        self._logger.info("Percent on %s:\n%s", self._dataset_name, results_table(metrics))
        return OrderedDict((task, dict(row)) for task, row in metrics.items())

    def _write(self, results: list[dict], parents: list[dict] | None) -> None:
        """Write the predictions to ``output_dir``, before they are scored."""
        if self._output_dir:
            path = os.path.join(self._output_dir, RESULTS_FILE)
            write_json(path, results)
            self._logger.info("%d predictions written to %s", len(results), path)
            if parents is not None:
                write_json(os.path.join(self._output_dir, PARENTS_FILE), parents)


def _check_finite(instances, source: dict) -> None:
    scores, boxes = instances.scores, instances.pred_boxes.tensor
    if not (torch.isfinite(scores).all() and torch.isfinite(boxes).all()):
        raise WeightsError(
            "the model gave a score or box that is not a number for "
            f"{source.get('file_name', source['image_id'])}; its weights are broken "
            "(did its training diverge?)"
        )


def _check_images(
    records: list[dict], truth: GroundTruth, img_ids: Sequence[int | str] | None
) -> None:
    """Refuse what would be figures of another data set: ranks may lose images or share some."""
    counts = Counter(record["image_id"] for record in records)
    expected = truth.image_sizes.keys() if img_ids is None else set(img_ids)
    problems = []
    for what, ids in (
        ("missing", [image_id for image_id in expected if image_id not in counts]),
        ("predicted more than once", [image_id for image_id, n in counts.items() if n > 1]),
        ("not in the data set", [i for i in counts if i not in truth.image_sizes]),
    ):
        if ids:
            some = ", ".join(map(repr, ids[:5])) + (", …" if len(ids) > 5 else "")
            problems.append(f"{len(ids)} images are {what} ({some})")
    if problems:
        raise DatasetError(
            f"predictions for {truth.name} must hold each of its {len(expected)} images once, but "
            f"{'; '.join(problems)}; evaluate the whole data set, or pass img_ids"
        )
