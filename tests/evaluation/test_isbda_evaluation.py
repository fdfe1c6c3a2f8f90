"""The evaluator, by hand."""

import json
import math

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator

import msnet_d2.evaluation.isbda_evaluation as module
from msnet_d2.errors import DatasetError, InputError, WeightsError
from msnet_d2.evaluation import (
    TASKS,
    ISBDAEvaluator,
    load_ground_truth,
    read_parents,
    read_results,
    results_table,
    score_results,
)
from msnet_d2.evaluation.coco_backends import BACKENDS


def run(evaluator, outputs, img_ids=None):
    evaluator.reset()
    for image_id, output in outputs.items():
        evaluator.process([{"image_id": image_id, "file_name": f"{image_id}.png"}], [output])
    return evaluator.evaluate(img_ids)


def test_perfect_predictions_get_100_everywhere(dataset, perfect):
    evaluator = ISBDAEvaluator(dataset)
    assert isinstance(evaluator, DatasetEvaluator)
    results = run(evaluator, perfect)
    assert list(results) == list(TASKS)
    for task in ("bbox", "segm", "isbda_bbox", "isbda_segm", "isbda_part_parent"):
        for figure in ("AP", "AP50", "AP-Slight", "AP-Severe", "AP-Debris"):
            assert results[task][figure] == pytest.approx(100), (task, figure)
    assert results["isbda_parent"]["AP"] == pytest.approx(100)
    assert set(results["bbox"]) >= {"AP75"}
    assert "AP75" not in results["isbda_bbox"]
    assert "AP25" in results["isbda_bbox"]
    # No part has 96² px or more: undefined.
    assert math.isnan(results["isbda_segm"]["APl"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_annotation_with_id_0_is_found_like_others(dataset, perfect, backend):
    # pycocotools takes the id 0 for "matched with nothing": every detection of it is a false one.
    if backend == "faster_coco_eval":
        pytest.importorskip("faster_coco_eval")
    assert any(part["id"] == 0 for part in load_ground_truth(dataset).parts)
    results = run(ISBDAEvaluator(dataset, backend=backend), perfect)
    for task in ("bbox", "segm", "isbda_bbox", "isbda_segm", "isbda_part_parent"):
        for figure in ("AP", "AP50", "AP-Slight", "AP-Severe", "AP-Debris"):
            assert results[task][figure] == pytest.approx(100), (task, figure)
    assert results["isbda_parent"]["AP"] == pytest.approx(100)


def test_each_building_counts_once(dataset, perfect, make_output):
    # There are 3 buildings for 4 parts. Of them the model finds the first of image 10, with .9; the
    # second not; the one of image 20 with .8, and that a second time with .7.
    # At each threshold: true, true, false. Recall 1/3, 2/3, 2/3 with precision 1, 1, 2/3:
    # precision 1 up to recall .66 (levels .00 … .66: 67 of 101), 0 beyond. AP = 67/101.
    # (Counted per part, there would be 4 objects: 2/4, so 51/101.)
    outputs = dict(perfect)
    outputs[10] = make_output([], [(0.9, (0, 0, 60, 60))])
    outputs[20] = make_output([], [(0.8, (10, 10, 80, 80)), (0.7, (12, 10, 80, 80))])
    results = run(ISBDAEvaluator(dataset), outputs)
    assert results["isbda_parent"]["AP"] == pytest.approx(100 * 67 / 101)
    assert "AP-Slight" not in results["isbda_parent"]


def test_a_parts_building_is_scored_under_its_level_and_score(dataset, perfect, make_output):
    # Severe has one part. It is found with its building: 100. The part itself is elsewhere, which
    # is no matter here. Debris' building box is in image 20, off by 40 of 80 px:
    # IoU 40·80 / (2·80·80 - 40·80) = 1/3, a match at .25 and .30: AP 2/6.
    # Slight: both buildings right, but under the level Severe: they count as false ones there. With
    # scores .5 under the right one's .9 they do not lower it. Slight: 0.
    outputs = dict(perfect)
    outputs[10] = make_output(
        [
            (1, 0.9, (100, 10, 20, 20), (0, 0, 60, 60)),
            (1, 0.5, (10, 10, 20, 20), (0, 0, 60, 60)),
            (1, 0.5, (100, 60, 30, 30), (90, 50, 60, 60)),
        ],
        [],
    )
    outputs[20] = make_output([(2, 0.9, (20, 20, 40, 40), (50, 10, 80, 80))], [])
    figures = run(ISBDAEvaluator(dataset), outputs)["isbda_part_parent"]
    assert figures["AP-Slight"] == 0
    assert figures["AP-Severe"] == pytest.approx(100)
    assert figures["AP-Debris"] == pytest.approx(100 * 2 / 6)
    assert figures["AP"] == pytest.approx(100 * (0 + 1 + 2 / 6) / 3)


def test_a_model_without_parents_and_masks(dataset, make_output, perfect):
    outputs = {image_id: {"instances": output["instances"]} for image_id, output in perfect.items()}
    for output in outputs.values():
        for field in ("pred_parent_boxes", "parent_scores"):
            if output["instances"].has(field):
                output["instances"].remove(field)
    assert list(run(ISBDAEvaluator(dataset), outputs)) == [
        "bbox",
        "segm",
        "isbda_bbox",
        "isbda_segm",
    ]
    boxes = {image_id: make_output([], masks=False) for image_id in outputs}
    assert list(run(ISBDAEvaluator(dataset), boxes)) == ["bbox", "isbda_bbox"]


def test_a_model_that_finds_nothing_gets_0(dataset, make_output, tmp_path):
    outputs = {image_id: make_output([], []) for image_id in (10, 20, 30)}
    results = run(ISBDAEvaluator(dataset, output_dir=str(tmp_path)), outputs)
    for task in TASKS:
        assert results[task]["AP"] == 0
    assert math.isnan(results["segm"]["APl"])
    assert json.loads((tmp_path / "coco_instances_results.json").read_text()) == []


def test_missing_unknown_and_repeated_images_are_errors(dataset, perfect):
    evaluator = ISBDAEvaluator(dataset)
    with pytest.raises(DatasetError, match=r"1 images are missing \(20\)"):
        run(evaluator, {k: v for k, v in perfect.items() if k != 20})
    with pytest.raises(DatasetError, match=r"not in the data set \(99\)"):
        run(evaluator, {**perfect, 99: perfect[30]})
    evaluator.process([{"image_id": 10}], [perfect[10]])
    with pytest.raises(DatasetError, match=r"more than once \(10\)"):
        evaluator.evaluate()
    # Part of a data set is evaluated when it is asked for.
    results = run(evaluator, {k: v for k, v in perfect.items() if k != 20}, img_ids=[10, 30])
    assert results["isbda_bbox"]["AP"] == pytest.approx(100)
    assert math.isnan(results["isbda_bbox"]["AP-Debris"])


@pytest.mark.parametrize("lost", [None, "missing", "more than once"])
def test_the_images_of_all_ranks_are_checked(dataset, perfect, monkeypatch, lost):
    # Rank 0 saw image 10; what the gathering brings from rank 1 is made up here.
    evaluator = ISBDAEvaluator(dataset)
    evaluator.reset()
    for image_id in (20, 30, *([10] if lost == "more than once" else [])):
        evaluator.process([{"image_id": image_id}], [perfect[image_id]])
    other_rank = evaluator._predictions[1:] if lost == "missing" else evaluator._predictions
    monkeypatch.setattr(module.comm, "gather", lambda data, dst: [data, other_rank])
    evaluator.reset()
    evaluator.process([{"image_id": 10}], [perfect[10]])
    if lost:
        with pytest.raises(DatasetError, match=lost):
            evaluator.evaluate()
    else:
        assert evaluator.evaluate()["isbda_segm"]["AP"] == pytest.approx(100)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["scores", "boxes", "parents"])
def test_scores_that_are_no_numbers_are_errors(dataset, perfect, value, where):
    # A NaN score would rank first and, as the only detection, get AP 100.
    output = perfect[20]
    if where == "boxes":
        output["instances"].pred_boxes.tensor[0, 0] = value
    else:
        output["instances" if where == "scores" else "parents"].scores[0] = value
    evaluator = ISBDAEvaluator(dataset)
    with pytest.raises(WeightsError, match="20.png"):
        evaluator.process([{"image_id": 20, "file_name": "20.png"}], [output])


def test_predictions_are_kept_and_score_the_same_again(dataset, perfect, make_output, tmp_path):
    outputs = dict(perfect)
    outputs[20] = make_output(
        [(2, 0.6, (25, 20, 40, 40), (20, 10, 80, 80)), (0, 0.3, (5, 5, 9, 9), (0, 0, 30, 30))],
        [(0.4, (20, 10, 80, 80))],
    )
    outputs[20]["instances"].scores_raw = torch.tensor([0.5, 0.25])
    results = run(ISBDAEvaluator(dataset, output_dir=str(tmp_path)), outputs)
    entries = json.loads((tmp_path / "coco_instances_results.json").read_text())
    assert len(entries) == 3 + 2
    last = entries[-2]
    assert last["image_id"] == 20
    # The data set's own id of Debris.
    assert last["category_id"] == 7
    assert last["bbox"] == [25, 20, 40, 40]
    assert last["score"] == pytest.approx(0.6)
    assert last["segmentation"]["size"] == [120, 160]
    assert last["parent_bbox"] == [20, 10, 80, 80]
    assert last["parent_score"] == 0.5
    assert last["score_raw"] == 0.5
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "coco_instances_results.json",
        "coco_parents_results.json",
    ]

    truth = load_ground_truth(dataset)
    again = score_results(
        truth,
        read_results(tmp_path / "coco_instances_results.json", truth),
        read_parents(tmp_path / "coco_parents_results.json", truth),
        tasks=list(TASKS),
    )
    assert {k: pytest.approx(v, nan_ok=True, abs=1e-9) for k, v in again.items()} == results
    assert 0 < results["segm"]["AP"] < 100


def test_predictions_are_kept_although_scoring_fails(dataset, perfect, tmp_path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise RuntimeError("scoring failed")

    monkeypatch.setattr(module, "score_results", fail)
    with pytest.raises(RuntimeError, match="scoring failed"):
        run(ISBDAEvaluator(dataset, output_dir=str(tmp_path)), perfect)
    assert len(json.loads((tmp_path / "coco_instances_results.json").read_text())) == 4


def test_stock_tasks_equal_detectron2s_evaluator(dataset, perfect, make_output, tmp_path):
    # Detectron2 converts the data set to JSON by itself, counts annotations from 1 and takes the
    # area of the polygons, which here is the boxes'.
    outputs = dict(perfect)
    outputs[10] = make_output(
        [
            (0, 0.9, (12, 10, 20, 20), (0, 0, 9, 9)),
            (0, 0.8, (60, 60, 20, 20), (0, 0, 9, 9)),
            (1, 0.7, (35, 14, 20, 20), (0, 0, 9, 9)),
            (0, 0.6, (100, 60, 28, 30), (0, 0, 9, 9)),
        ]
    )
    theirs = run(COCOEvaluator(dataset, output_dir=str(tmp_path), use_fast_impl=False), outputs)
    ours = run(ISBDAEvaluator(dataset, tasks=["bbox", "segm"]), outputs)
    for task in ("bbox", "segm"):
        assert ours[task] == pytest.approx(theirs[task], abs=1e-6, nan_ok=True)
        assert 0 < ours[task]["AP"] < 100


def test_a_conversion_left_on_the_disk_is_not_used(dataset, perfect, tmp_path):
    (tmp_path / f"{dataset}_coco_format.json").write_text('{"images": [], "annotations": []}')
    results = run(ISBDAEvaluator(dataset, output_dir=str(tmp_path)), perfect)
    assert results["bbox"]["AP"] == pytest.approx(100)
    assert not hasattr(MetadataCatalog.get(dataset), "json_file")


def test_a_data_set_without_annotations_only_keeps_predictions(dataset, perfect, tmp_path):
    name = f"{dataset}_bare"
    records = [
        {k: v for k, v in r.items() if k != "annotations"} for r in DatasetCatalog.get(dataset)
    ]
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(thing_classes=["Slight", "Severe", "Debris"])
    try:
        assert run(ISBDAEvaluator(name, output_dir=str(tmp_path)), perfect) == {}
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    assert len(json.loads((tmp_path / "coco_instances_results.json").read_text())) == 4


def test_more_objects_than_detections_count_is_warned_of(dataset, perfect, caplog):
    run(ISBDAEvaluator(dataset, max_dets_per_image=1), perfect)
    # Image 10 has two parts of level Slight.
    assert "1 images (the first: 10) have more than 1 parts" in caplog.text


def test_outputs_without_instances_are_refused(dataset, perfect):
    outputs = {image_id: {"proposals": out["instances"]} for image_id, out in perfect.items()}
    with pytest.raises(InputError, match=r"gives proposals, no instances.*COCOEvaluator"):
        run(ISBDAEvaluator(dataset), outputs)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"tasks": ["mask"]}, "task 'mask' is unknown"), ({"backend": "coco"}, "backend 'coco'")],
)
def test_unknown_options(dataset, options, message):
    with pytest.raises(InputError, match=message):
        ISBDAEvaluator(dataset, **options)


def test_a_class_that_the_data_set_does_not_have(dataset, make_output):
    evaluator = ISBDAEvaluator(dataset)
    with pytest.raises(InputError, match="predicts class 3, but the data set has 3"):
        evaluator.process([{"image_id": 10}], [make_output([(3, 0.5, (0, 0, 9, 9), None)])])


def test_the_table_shows_undefined_and_absent_figures():
    table = results_table(
        {
            "segm": {"AP": 12.346, "AP75": 1.0, "APl": math.nan, "AP-Slight": 3.0},
            "isbda_parent": {"AP": 50.0, "AP25": 60.0},
        }
    )
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]
    assert cells[0] == ["task", "AP", "AP25", "AP75", "APl", "Slight"]
    assert cells[2] == ["segm", "12.35", "", "1.00", "nan", "3.00"]
    assert cells[3] == ["isbda_parent", "50.00", "60.00", "", "", ""]
    assert results_table({}) == ""
