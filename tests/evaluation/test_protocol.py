"""The figures, by hand and against pycocotools."""

import contextlib
import io
import math

import numpy as np
import pytest
from pycocotools import mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from msnet_d2.evaluation.coco_backends import BACKENDS, precision_table
from msnet_d2.evaluation.protocol import (
    AREA_RANGES,
    COCO_PROTOCOL,
    ISBDA_PROTOCOL,
    summarize,
    union_of_thresholds,
)

SIZES = {1: (200, 200), 2: (200, 200)}


def box(image_id, category_id, x, y, w, h, **more):
    polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    rle = mask_util.merge(mask_util.frPyObjects(polygon, 200, 200))
    rle["counts"] = rle["counts"].decode()
    return {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [x, y, w, h],
        "area": float(w * h),
        "segmentation": rle,
        **more,
    }


def figures(truth, found, protocol=ISBDA_PROTOCOL, names=("Slight", "Severe"), **options):
    thresholds = union_of_thresholds([ISBDA_PROTOCOL, COCO_PROTOCOL])
    table = precision_table(
        SIZES,
        list(range(1, len(names) + 1)),
        truth,
        found,
        iou_type=options.pop("iou_type", "bbox"),
        iou_thresholds=thresholds,
        **options,
    )
    return summarize(table, thresholds, protocol, names)


def test_the_thresholds_are_the_published_codes():
    assert np.allclose(ISBDA_PROTOCOL.iou_thresholds, [0.25, 0.3, 0.35, 0.4, 0.45, 0.5], atol=1e-15)
    # 0.5 belongs to both protocols, exactly: 6 + 10 - 1.
    assert len(union_of_thresholds([ISBDA_PROTOCOL, COCO_PROTOCOL])) == 15


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_figures_of_a_case_by_hand(backend, iou_type):
    # Slight: one object 40×40 = 1600 px (medium), found with the box shifted by 16 px:
    #   intersection 24·40 = 960, union 2·1600 - 960 = 2240, IoU 0.4286: a match at .25 .30 .35 .40,
    #   none at .45 .50. One detection, one object: AP 1 or 0.
    #   AP = 4/6, AP25 = 1, AP50 = 0.
    # Severe: two objects 20×20 = 400 px (small), the second found exactly (score .9), the first
    #   not; a false detection 20×20 elsewhere with score .5. At every threshold: precision 1 up to
    #   recall .5, nothing beyond. Recall levels 0, .01, …, .50 have precision 1: 51 of 101.
    #   AP = AP25 = AP50 = 51/101.
    # Debris: no object, and a detection of it: undefined, and not part of any mean.
    truth = [
        box(1, 1, 10, 10, 40, 40),
        box(1, 2, 100, 10, 20, 20),
        box(2, 2, 100, 100, 20, 20),
    ]
    found = [
        box(1, 1, 26, 10, 40, 40, score=0.8),
        box(2, 2, 100, 100, 20, 20, score=0.9),
        box(2, 2, 10, 10, 20, 20, score=0.5),
        box(2, 3, 10, 10, 20, 20, score=0.5),
    ]
    result = figures(
        truth, found, names=("Slight", "Severe", "Debris"), backend=backend, iou_type=iou_type
    )
    slight, severe = 400 / 6, 100 * 51 / 101
    expected = {
        "AP": (slight + severe) / 2,
        "AP25": (100 + severe) / 2,
        "AP50": (0 + severe) / 2,
        # Only Severe has small objects, only Slight medium ones, none large ones.
        "APs": severe,
        "APm": slight,
        "APl": math.nan,
        "AP-Slight": slight,
        "AP-Severe": severe,
        "AP-Debris": math.nan,
    }
    assert list(result) == list(expected)
    assert result == pytest.approx(expected, nan_ok=True, abs=1e-9)


def test_coco_protocol_of_the_same_shift():
    # IoU 0.4286 is under all of COCO's thresholds; a shift by 5 of 40 px has IoU
    # 35·40 / (3200 - 1400) = 0.7778: a match at .50 .55 .60 .65 .70 .75, 6 of COCO's 10.
    truth = [box(1, 1, 10, 10, 40, 40), box(2, 1, 10, 10, 40, 40)]
    found = [box(1, 1, 26, 10, 40, 40, score=0.8)]
    assert figures(truth, found, COCO_PROTOCOL)["AP"] == 0
    found = [
        box(1, 1, 15, 10, 40, 40, score=0.8),
        box(2, 1, 15, 10, 40, 40, score=0.7),
    ]
    result = figures(truth, found, COCO_PROTOCOL)
    assert result["AP"] == pytest.approx(60)
    assert (result["AP50"], result["AP75"]) == (100, 100)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_found_is_zero_and_nothing_there_is_undefined(backend):
    result = figures([box(1, 1, 10, 10, 40, 40)], [], backend=backend)
    assert result["AP"] == result["AP25"] == result["APm"] == result["AP-Slight"] == 0
    assert math.isnan(result["APs"])
    assert math.isnan(result["AP-Severe"])
    result = figures([], [box(1, 1, 10, 10, 40, 40, score=0.9)], backend=backend)
    assert all(math.isnan(value) for value in result.values())


@pytest.mark.parametrize("backend", BACKENDS)
def test_only_the_best_detections_of_an_image_count(backend):
    # The match has the lowest score of three; with two detections an image it is cut off.
    truth = [box(1, 1, 10, 10, 40, 40)]
    found = [box(1, 1, 100, 100, 40, 40, score=s) for s in (0.9, 0.8)]
    found.append(box(1, 1, 10, 10, 40, 40, score=0.7))
    # Precision 1/3 at every recall level.
    assert figures(truth, found, backend=backend)["AP"] == pytest.approx(100 / 3)
    assert figures(truth, found, backend=backend, max_detections=2)["AP"] == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_crowds_are_neither_missed_nor_false(backend):
    # The crowd is not an object to find, and the detection inside it is no mistake:
    # what counts is one object, found.
    truth = [box(1, 1, 10, 10, 40, 40), box(1, 1, 100, 100, 80, 80, iscrowd=1)]
    found = [box(1, 1, 110, 110, 40, 40, score=0.9), box(1, 1, 10, 10, 40, 40, score=0.8)]
    assert figures(truth, found, backend=backend)["AP"] == pytest.approx(100)


def random_case(seed, images=12):
    """Objects with jittered detections; scores to one digit, so that many are equal."""
    rng = np.random.default_rng(seed)
    sizes = dict.fromkeys(range(1, images + 1), (260, 260))
    truth, found = [], []

    def blob(image, category, x, y, w, h, **more):
        w, h = max(w, 1.0), max(h, 1.0)
        polygon = [[x, y, x + w, y, x + 0.7 * w, y + h, x, y + 0.8 * h]]
        rle = mask_util.merge(mask_util.frPyObjects(polygon, 260, 260))
        rle["counts"] = rle["counts"].decode()
        return {
            "image_id": image,
            "category_id": category,
            "bbox": [x, y, w, h],
            "segmentation": rle,
            "area": float(mask_util.area(rle)),
            **more,
        }

    for image in sizes:
        for _ in range(rng.integers(0, 8)):
            category = int(rng.integers(1, 4))
            x, y = rng.uniform(0, 80, 2)
            w, h = rng.uniform(8, 180, 2)
            truth.append(blob(image, category, x, y, w, h, iscrowd=int(rng.random() < 0.1)))
            for _ in range(rng.integers(0, 4)):
                shift = rng.normal(0, 6, 4)
                score = float(np.round(rng.random(), 1))
                where = (x + shift[0], y + shift[1], w + shift[2], h + shift[3])
                found.append(blob(image, category, *where, score=score))
    return sizes, truth, found


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(4))
def test_backends_agree(seed, iou_type):
    sizes, truth, found = random_case(seed)
    thresholds = union_of_thresholds([ISBDA_PROTOCOL, COCO_PROTOCOL])
    rows = {
        backend: precision_table(
            sizes,
            [1, 2, 3, 4],
            truth,
            found,
            iou_type=iou_type,
            iou_thresholds=thresholds,
            backend=backend,
        )
        for backend in BACKENDS
    }
    assert np.abs(rows["pycocotools"] - rows["faster_coco_eval"]).max() < 1e-6
    names = ("a", "b", "c", "d")
    for protocol in (ISBDA_PROTOCOL, COCO_PROTOCOL):
        one, other = (summarize(rows[backend], thresholds, protocol, names) for backend in BACKENDS)
        assert one == pytest.approx(other, abs=1e-6, nan_ok=True)
        assert 0 < one["AP"] < 100


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize(
    ("protocol", "thresholds"),
    [
        (ISBDA_PROTOCOL, [0.25, 0.3, 0.35, 0.4, 0.45, 0.5]),
        (COCO_PROTOCOL, [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]),
    ],
)
def test_equals_pycocotools_used_in_the_ordinary_way(protocol, thresholds, iou_type):
    sizes, truth, found = random_case(11)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i, "height": h, "width": w} for i, (h, w) in sizes.items()],
            "categories": [{"id": i} for i in (1, 2, 3)],
            "annotations": [{**entry, "id": n} for n, entry in enumerate(truth, start=1)],
        }
        coco.createIndex()
        # loadRes takes the area from the box if there is one.
        unwanted = {"area", "bbox"} if iou_type == "segm" else {"area", "segmentation"}
        plain = [{k: v for k, v in entry.items() if k not in unwanted} for entry in found]
        evaluation = COCOeval(coco, coco.loadRes(plain), iou_type)
        evaluation.params.iouThrs = np.array(thresholds)
        evaluation.evaluate()
        evaluation.accumulate()
    # (T, R, K, A, M): A is all, small, medium, large; the last M is 100 detections.
    precision = evaluation.eval["precision"][..., -1]

    def mean(values):
        return 100 * values[values > -1].mean()

    if iou_type == "bbox":
        found = [{**entry, "area": entry["bbox"][2] * entry["bbox"][3]} for entry in found]
    union = union_of_thresholds([ISBDA_PROTOCOL, COCO_PROTOCOL])
    table = precision_table(sizes, [1, 2, 3], truth, found, iou_type=iou_type, iou_thresholds=union)
    result = summarize(table, union, protocol, ("a", "b", "c"))
    assert result["AP"] == pytest.approx(mean(precision[..., 0]), abs=1e-6)
    for index, name in enumerate(list(AREA_RANGES)[1:], start=1):
        assert result[f"AP{name}"] == pytest.approx(mean(precision[..., index]), abs=1e-6)
    for index, name in enumerate("abc"):
        assert result[f"AP-{name}"] == pytest.approx(mean(precision[:, :, index, 0]), abs=1e-6)
    for name, threshold in protocol.singled_out.items():
        at = int(np.argmin(np.abs(np.array(thresholds) - threshold)))
        assert result[name] == pytest.approx(mean(precision[at, ..., 0]), abs=1e-6)
