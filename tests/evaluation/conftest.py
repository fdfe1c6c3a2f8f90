"""A data set of three images, registered as the loader registers ISBDA's."""

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances

HEIGHT, WIDTH = 120, 160


def rectangle(x, y, w, h):
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def part(number, category, box, parent, parent_id):
    """An annotation whose mask fills its box."""
    return {
        "id": number,
        "bbox": list(box),
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": category,
        "segmentation": rectangle(*box),
        "iscrowd": 0,
        "area": float(box[2] * box[3]),
        "parent_bbox": list(parent),
        "parent_id": parent_id,
    }


# Two buildings in image 10, the first with two parts; one in image 20; none in image 30.
# The first annotation has the id 0, which pycocotools would never match.
ANNOTATIONS = {
    10: [
        part(0, 0, (10, 10, 20, 20), (0, 0, 60, 60), 1),
        part(1, 1, (35, 10, 20, 20), (0, 0, 60, 60), 1),
        part(2, 0, (100, 60, 30, 30), (90, 50, 60, 60), 2),
    ],
    20: [part(3, 2, (20, 20, 40, 40), (10, 10, 80, 80), 1)],
    30: [],
}


@pytest.fixture
def dataset(request):
    """Name of a registered data set with :data:`ANNOTATIONS`."""
    name = f"evaluation_{abs(hash(request.node.nodeid))}"
    records = [
        {
            "file_name": f"/nowhere/{image_id}.png",
            "image_id": image_id,
            "height": HEIGHT,
            "width": WIDTH,
            "annotations": annotations,
        }
        for image_id, annotations in ANNOTATIONS.items()
    ]
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(
        thing_classes=["Slight", "Severe", "Debris"],
        # Other ids than the contiguous ones, and in another order.
        thing_dataset_id_to_contiguous_id={7: 2, 1: 0, 2: 1},
        evaluator_type="isbda",
    )
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def xyxy(boxes):
    tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return torch.cat([tensor[:, :2], tensor[:, :2] + tensor[:, 2:]], dim=1)


@pytest.fixture
def make_output():
    """Function from lists of (class, score, box, parent box) to a model's output."""

    def make(found, parents=None, masks=True):
        instances = Instances((HEIGHT, WIDTH))
        instances.pred_boxes = Boxes(xyxy([box for _, _, box, _ in found]))
        instances.scores = torch.tensor([score for _, score, _, _ in found])
        instances.pred_classes = torch.tensor([c for c, _, _, _ in found], dtype=torch.int64)
        if masks:
            instances.pred_masks = torch.zeros(len(found), HEIGHT, WIDTH, dtype=torch.bool)
            for index, (_, _, (x, y, w, h), _) in enumerate(found):
                instances.pred_masks[index, y : y + h, x : x + w] = True
        if parents is None:
            return {"instances": instances}
        instances.pred_parent_boxes = Boxes(xyxy([parent for _, _, _, parent in found]))
        instances.parent_scores = torch.full((len(found),), 0.5)
        buildings = Instances((HEIGHT, WIDTH))
        buildings.pred_boxes = Boxes(xyxy([box for _, box in parents]))
        buildings.scores = torch.tensor([score for score, _ in parents])
        return {"instances": instances, "parents": buildings}

    return make


@pytest.fixture
def perfect(make_output):
    """Output per image id that finds everything exactly, the buildings too."""
    outputs = {}
    for image_id, annotations in ANNOTATIONS.items():
        found = [(a["category_id"], 0.9, a["bbox"], a["parent_bbox"]) for a in annotations]
        buildings = {a["parent_id"]: a["parent_bbox"] for a in annotations}
        outputs[image_id] = make_output(found, [(0.8, box) for box in buildings.values()])
    return outputs
