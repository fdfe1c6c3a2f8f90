from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, BoxMode, Instances

from msnet_d2.errors import InputError
from msnet_d2.structures.duplicates import distinct_objects
from msnet_d2.structures.mask_crop import MaskCrop
from msnet_d2.visualization.brushes import Layout
from msnet_d2.visualization.draw import (
    contact_sheet,
    draw_dataset_dict,
    level_colors,
    side_by_side,
)
from msnet_d2.visualization.draw import (
    draw_instance_predictions as draw_predictions,
)

METADATA = SimpleNamespace(
    thing_classes=["Slight", "Severe", "Debris"],
    thing_colors=[(10, 200, 30), (250, 170, 0), (220, 40, 60)],  # RGB
)
BLUE_FIRST = {0: (30, 200, 10), 1: (0, 170, 250), 2: (60, 40, 220)}  # the same as BGR


def image(height=200, width=320, value=100):
    return np.full((height, width, 3), value, np.uint8)


def instances(boxes, scores, classes, size=(200, 320), masks=None, **fields):
    result = Instances(size)
    result.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    result.scores = torch.tensor(scores, dtype=torch.float32)
    result.pred_classes = torch.tensor(classes, dtype=torch.int64)
    if masks is not None:
        result.pred_masks = masks
    for name, value in fields.items():
        result.set(name, value)
    return result


def full_masks(boxes, size=(200, 320)):
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes):
        mask[y0:y1, x0:x1] = True
    return masks


def changed(before, after):
    """(H, W) bool: pixels that differ."""
    return (before != after).any(axis=2)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_mask_is_blended_with_the_color_of_its_level(level):
    box = [100, 100, 180, 180]
    found = instances([box], [0.9], [level], masks=full_masks([box]))
    result = draw_predictions(image(), found, metadata=METADATA, legend=False)
    # 65% of the frame's 100 and 35% of the colour, in the middle of the mask.
    expected = [round(100 * 0.65 + c * 0.35) for c in BLUE_FIRST[level]]
    assert result[140, 140].tolist() == expected
    # The outline is the colour itself.
    assert result[100, 170].tolist() == list(BLUE_FIRST[level])


def test_nothing_outside_boxes_and_labels_changes():
    boxes = [[100, 100, 180, 180], [220, 60, 300, 90]]
    found = instances(boxes, [0.9, 0.8], [0, 1], masks=full_masks(boxes))
    before = image()
    result = draw_predictions(before, found, metadata=METADATA, legend=False)
    allowed = np.zeros((200, 320), bool)
    for x0, y0, x1, y1 in boxes:
        allowed[y0:y1, x0:x1] = True
        # A label stands above its box, 8 pixels of capitals plus margins high.
        allowed[y0 - 16 : y0, x0 : x0 + 100] = True
    difference = changed(before, result)
    assert not difference[~allowed].any()
    assert difference[100:180, 100:180].all()
    assert (before == 100).all(), "the given image is not drawn on"


def test_a_mask_that_leaves_its_box_is_cut_off_there():
    mask = torch.ones(1, 200, 320, dtype=torch.bool)
    found = instances([[100, 100, 180, 180]], [0.9], [0], masks=mask)
    result = draw_predictions(image(), found, metadata=METADATA, legend=False)
    assert not changed(image(), result)[181:].any()


def test_only_scores_from_the_threshold_on_are_drawn():
    boxes = [[20, 100, 80, 160], [120, 100, 180, 160], [220, 100, 280, 160]]
    # 0.5 in float32 is exact, so that "at least" is what is tested.
    found = instances(boxes, [0.5, 0.499, 0.9], [0, 0, 0], masks=full_masks(boxes))
    result = draw_predictions(image(), found, metadata=METADATA, legend=False, min_score=0.5)
    drawn = [changed(image(), result)[130, x] for x in (50, 150, 250)]
    assert drawn == [True, False, True]


def test_no_instances_change_nothing_but_the_legend():
    found = instances([], [], [], masks=torch.zeros(0, 200, 320, dtype=torch.bool))
    assert not changed(
        image(), draw_predictions(image(), found, metadata=METADATA, legend=False)
    ).any()
    with_legend = changed(image(), draw_predictions(image(), found, metadata=METADATA))
    rows, columns = np.nonzero(with_legend)
    assert len(rows)
    assert rows.max() < 100
    assert columns.max() < 160


def test_boxes_at_and_beyond_the_border_are_clipped():
    boxes = [[-30.5, -20.0, 15.2, 12.7], [310.0, 190.0, 400.0, 260.0], [500.0, 20.0, 600.0, 40.0]]
    found = instances(boxes, [0.9, 0.9, 0.9], [0, 1, 2], masks=full_masks([[0] * 4] * 3))
    result = draw_predictions(image(), found, metadata=METADATA, legend=False)
    assert result.shape == (200, 320, 3)
    # The label of the box at the upper left corner has no room above: it is drawn inside.
    assert changed(image(), result)[:16, :16].any()
    # Nothing is drawn for the box outside the frame, not even its label.
    assert not changed(image(), result)[20:60, 200:].any()


def test_empty_masks_and_empty_boxes_are_no_trouble():
    boxes = [[50, 50, 50, 50], [100, 100, 160, 150]]
    found = instances(boxes, [0.9, 0.9], [0, 1], masks=torch.zeros(2, 200, 320, dtype=torch.bool))
    result = draw_predictions(image(), found, metadata=METADATA, legend=False)
    assert not changed(image(), result)[120, 130]
    assert changed(image(), result)[100, 155]  # the outline of the second box


def test_all_forms_of_masks_look_the_same():
    box = [100, 60, 164, 124]  # 64 × 64 pixels
    whole = full_masks([box])
    inside = np.ones((64, 64), np.uint8)
    forms = {
        "bool tensor": whole,
        "uint8 numpy": whole.numpy().astype(np.uint8),
        "probabilities (N, 28, 28)": torch.full((1, 28, 28), 0.9),
        "probabilities (N, 1, 28, 28)": torch.full((1, 1, 28, 28), 0.9),
        "crops": [MaskCrop(inside, 100, 60)],
    }
    pictures = {}
    for name, masks in forms.items():
        found = SimpleNamespace(
            pred_boxes=np.array([box], float),
            scores=np.array([0.9]),
            pred_classes=np.array([1]),
            pred_masks=masks,
        )
        pictures[name] = draw_predictions(image(), found, metadata=METADATA)
    for name, picture in pictures.items():
        assert (picture == pictures["bool tensor"]).all(), name


def test_probabilities_are_stretched_over_their_box():
    # 2 × 2 probabilities, left column 1, right column 0: 0.5 is crossed in the middle of the box.
    found = instances(
        [[40, 40, 140, 140]], [0.9], [0], masks=torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    )
    result = draw_predictions(image(), found, metadata=METADATA, legend=False)
    difference = changed(image(), result)
    assert difference[120, 60:88].all()
    assert not difference[120, 92:138].any()


@pytest.mark.parametrize(
    ("raw", "shown"),
    [(0.40, 1), (0.80, -1), (0.60, 0), (0.6004, 0)],
    ids=["raised", "lowered", "unchanged", "changed less than two digits show"],
)
def test_arrow_says_where_refinement_moved_a_score(monkeypatch, raw, shown):
    import msnet_d2.visualization.draw as visualize

    arrows = []
    real = visualize.text_sprite

    def spy(text, cap, background, arrow=0, ink=None):
        if "0.60" in text:
            arrows.append(arrow)
        return real(text, cap, background, arrow, ink)

    monkeypatch.setattr(visualize, "text_sprite", spy)
    found = instances([[100, 100, 180, 180]], [0.6], [0], scores_raw=torch.tensor([raw]))
    draw_predictions(image(), found, metadata=METADATA)
    assert arrows == [shown]


def test_arrow_changes_the_picture():
    box = [[100, 100, 180, 180]]
    pictures = [
        draw_predictions(
            image(), instances(box, [0.6], [0]), metadata=METADATA, legend=False, scores_raw=raw
        )
        for raw in ([0.4], [0.8], None)
    ]
    assert changed(pictures[0], pictures[1]).any()
    assert changed(pictures[0], pictures[2]).any()


def test_buildings_are_marked_at_their_corners_once():
    # Two parts of one building, and its box repeated in both.
    boxes = [[100, 100, 140, 140], [150, 100, 180, 140]]
    building = [60.0, 60.0, 240.0, 180.0]
    found = instances(
        boxes, [0.9, 0.9], [0, 1], pred_parent_boxes=Boxes(torch.tensor([building] * 2))
    )
    result = draw_predictions(image(), found, metadata=METADATA, legend=False)
    for y, x in ((60, 60), (60, 239), (179, 60), (179, 239)):
        assert result[y, x].tolist() == [255, 255, 255]
    assert result[60, 150].tolist() == [100, 100, 100]  # between the corners
    given = instances([building], [0.9], [0])
    again = draw_predictions(image(), found, metadata=METADATA, legend=False, parents=given)
    assert (again == result).all()
    low = instances([building], [0.2], [0])
    none = draw_predictions(image(), found, metadata=METADATA, legend=False, parents=low)
    assert none[60, 60].tolist() == [100, 100, 100]


def test_a_part_in_no_building_marks_none():
    found = instances(
        [[100, 100, 140, 140]], [0.9], [0], pred_parent_boxes=Boxes(torch.zeros(1, 4))
    )
    result = draw_predictions(image(), found, metadata=METADATA, legend=False)
    assert not changed(image(), result)[:50, :50].any()


def test_labels_stay_inside_and_do_not_cover_one_another():
    layout = Layout.for_image(image(200, 320))
    rng = np.random.default_rng(0)
    taken = np.zeros((200, 320), int)
    for x, y in rng.integers(0, [320, 200], (12, 2)):
        (left, top), free = layout.place((x, y, x + 10, y + 10), 60, 14)
        assert 0 <= left <= 260
        assert 0 <= top <= 186
        if free:
            # Cells of 4 pixels that were free: no label is there.
            assert not taken[top : top + 14, left : left + 60].any()
        layout.occupy(left, top, 60, 14)
        taken[top : top + 14, left : left + 60] += 1


@pytest.mark.parametrize(
    ("size", "text"), [((1080, 1920), 15), ((360, 640), 8), ((1920, 1080), 15), ((90, 160), 8)]
)
def test_text_follows_the_shorter_side_and_stays_readable(size, text):
    # 1080 / 72 = 15 pixels; 8 at least, below which no letter is readable.
    assert Layout.for_image(image(*size)).text == text


def test_a_frame_smaller_than_the_legend_is_drawn_all_the_same():
    found = instances([[2, 2, 8, 8]], [0.9], [0], size=(12, 16))
    assert draw_predictions(image(12, 16), found, metadata=METADATA, caption="0:00").shape == (
        12,
        16,
        3,
    )


def test_captions_of_a_long_video_are_not_kept():
    from msnet_d2.visualization.brushes import text_sprite

    found = instances([[100, 100, 140, 140]], [0.9], [0])
    draw_predictions(image(), found, metadata=METADATA, caption="frame 0")
    before = text_sprite.cache_info().currsize
    for i in range(1, 30):
        draw_predictions(image(), found, metadata=METADATA, caption=f"frame {i}")
    assert text_sprite.cache_info().currsize == before


def test_in_place_draws_on_the_given_image():
    canvas = image()
    found = instances([[100, 100, 140, 140]], [0.9], [0])
    assert draw_predictions(canvas, found, metadata=METADATA, in_place=True) is canvas
    assert changed(image(), canvas).any()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((20, 20), np.uint8), "uint8"),
        (np.zeros((20, 20, 3), np.float32), "float32"),
        (np.zeros((0, 20, 3), np.uint8), "pixels"),
        ("picture.png", "str"),
    ],
)
def test_only_bgr_images_are_accepted(bad, message):
    with pytest.raises(InputError, match=message):
        draw_predictions(bad, instances([], [], []), metadata=METADATA)


def test_boxes_that_are_not_finite_and_unknown_classes_are_refused():
    with pytest.raises(InputError, match="not finite"):
        draw_predictions(image(), instances([[1, 1, np.nan, 9]], [0.9], [0]), metadata=METADATA)
    with pytest.raises(InputError, match="3 classes"):
        draw_predictions(image(), instances([[1, 1, 9, 9]], [0.9], [3]), metadata=METADATA)
    found = SimpleNamespace(
        pred_boxes=np.ones((1, 4)),
        scores=np.ones(1),
        pred_classes=np.zeros(1),
        pred_masks=np.zeros((2, 200, 320), bool),
    )
    with pytest.raises(InputError, match="1 instances but 2 masks"):
        draw_predictions(image(), found, metadata=METADATA)


def test_classes_without_colors_get_fixed_ones():
    plain = SimpleNamespace(thing_classes=["a", "b", "c"])
    colors = level_colors(plain)
    assert len(set(colors)) == 3
    assert level_colors(plain) == colors
    assert level_colors(METADATA) == [BLUE_FIRST[k] for k in range(3)]


def annotation(**changes):
    base = {
        "bbox": [40, 30, 60, 40],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": 1,
        "segmentation": [[40, 30, 100, 30, 100, 70, 40, 70]],
        "parent_bbox": [20, 20, 100, 80],
        "parent_id": 0,
    }
    return {**base, **changes}


def test_ground_truth_is_drawn_from_polygons_and_rle():
    from pycocotools import mask as mask_utils

    pixels = np.zeros((200, 320), np.uint8)
    pixels[30:70, 40:100] = 1
    rle = mask_utils.encode(np.asfortranarray(pixels))
    pictures = [
        draw_dataset_dict(
            image(),
            {"width": 320, "height": 200, "annotations": [annotation(segmentation=segmentation)]},
            metadata=METADATA,
            legend=False,
        )
        for segmentation in (annotation()["segmentation"], rle)
    ]
    expected = [round(100 * 0.65 + c * 0.35) for c in BLUE_FIRST[1]]
    for picture in pictures:
        assert picture[55, 70].tolist() == expected
        assert picture[20, 20].tolist() == [255, 255, 255]  # the building's corner


def test_ground_truth_is_scaled_to_the_image():
    record = {"width": 320, "height": 200, "annotations": [annotation()]}
    picture = draw_dataset_dict(image(400, 640), record, metadata=METADATA, legend=False)
    # The building's upper left corner at (20, 20) is at (40, 40) in twice the size.
    assert picture[40, 40].tolist() == [255, 255, 255]
    assert not changed(image(400, 640), picture)[:30, :30].any()


def test_ground_truth_without_annotations():
    record = {"width": 320, "height": 200}
    picture = draw_dataset_dict(image(), record, metadata=METADATA, legend=False)
    assert (picture == image()).all()


def test_side_by_side_scales_to_the_left_height():
    left, right = image(100, 160, 10), image(50, 80, 20)
    sheet = side_by_side(left, right, ("", ""))
    # Layout of 100 pixels: pad 3, so the gap is 6; the right one is doubled to 160.
    assert sheet.shape == (100, 160 + 6 + 160, 3)
    assert (sheet[:, :160] == 10).all()
    assert (sheet[:, -160:] == 20).all()
    titled = side_by_side(left, right, ("Ground truth", "Prediction"))
    assert titled.shape[0] > 100
    assert (titled[-100:] == sheet).all()


def test_contact_sheet_places_rows_and_fits_other_shapes():
    # Three cells of 100 × 50 in two columns, gaps of 2.
    sheet = contact_sheet([image(50, 100, 10), image(100, 100, 20), image(50, 100, 30)], 2)
    assert sheet.shape == (2 + 2 * 52, 2 + 2 * 102, 3)
    assert (sheet[2:52, 2:102] == 10).all()
    assert (sheet[54:104, 2:102] == 30).all()
    # The square one is 50 × 50 in the middle of its cell.
    assert (sheet[2:52, 104 + 25 : 104 + 75] == 20).all()
    assert (sheet[2:52, 104 : 104 + 25] == 255).all()


@pytest.mark.parametrize(("images", "columns"), [([], 2), ([image()], 0)])
def test_contact_sheet_needs_images_and_columns(images, columns):
    with pytest.raises(InputError):
        contact_sheet(images, columns)


def test_buildings_without_drawn_damage_are_left_out():
    damaged, sound = [60.0, 60.0, 160.0, 180.0], [200.0, 60.0, 300.0, 180.0]
    found = instances(
        [[100, 100, 140, 140]], [0.9], [0], pred_parent_boxes=Boxes(torch.tensor([damaged]))
    )
    parents = instances([sound, damaged], [0.95, 0.9], [0, 0])
    drawing = {"metadata": METADATA, "legend": False, "parents": parents}
    result = draw_predictions(image(), found, **drawing)
    assert result[60, 60].tolist() == [255, 255, 255]
    assert result[60, 200].tolist() == [100, 100, 100]


def test_of_duplicates_nested_in_one_another_only_the_best_is_drawn():
    # The smaller box lies wholly in the larger one, and IoU = 1600 / 6400 = 0.25 passes any NMS.
    boxes = [[100, 100, 180, 180], [120, 120, 160, 160]]
    one_class = instances(boxes, [0.9, 0.8], [0, 0], masks=full_masks(boxes))
    alone = instances(boxes[:1], [0.9], [0], masks=full_masks(boxes[:1]))
    expected = draw_predictions(image(), alone, metadata=METADATA, legend=False)
    result = draw_predictions(image(), one_class, metadata=METADATA, legend=False)
    assert (result == expected).all()
    result = draw_predictions(image(), one_class, metadata=METADATA, legend=False, max_overlap=1)
    assert changed(result, expected).any()
    # Another level is another finding.
    two_classes = instances(boxes, [0.9, 0.8], [0, 1], masks=full_masks(boxes))
    result = draw_predictions(image(), two_classes, metadata=METADATA, legend=False)
    assert changed(result, expected).any()


@pytest.mark.parametrize(
    ("share", "max_overlap", "expected"),
    [
        (0.5, 0.7, [0, 1]),
        (0.8, 0.7, [0]),
        (0.8, 0.8, [0, 1]),  # strictly more is a duplicate
        (1.0, 1.0, [0, 1]),
    ],
)
def test_duplicates_are_told_by_the_share_of_the_smaller(share, max_overlap, expected):
    # A box of 10 × 10 of which `share` lies in one of 100 × 100.
    boxes = np.array([[0, 0, 100, 100], [100 - 10 * share, 0, 110 - 10 * share, 10]])
    assert distinct_objects(boxes, max_overlap=max_overlap) == expected


def test_masks_decide_on_duplicates_where_there_are_some():
    # An L of 20 × 20 without its upper right quarter, and what lies in that quarter: the box is
    # nested, the mask is apart.
    el = np.ones((20, 20), np.uint8)
    el[:10, 10:] = 0
    masks = [MaskCrop(el, 0, 0), MaskCrop(np.ones((8, 8), np.uint8), 11, 1)]
    boxes = np.array([[0.0, 0, 20, 20], [11, 1, 19, 9]])
    assert distinct_objects(boxes, masks=masks) == [0, 1]
    assert distinct_objects(boxes) == [0]
    # Moved down by 5: its rows 10 to 13 of 6 to 13, that is half of it, lie in the L.
    masks[1] = MaskCrop(np.ones((8, 8), np.uint8), 11, 6)
    assert masks[0].overlap(masks[1]) == masks[1].overlap(masks[0]) == 4 * 8
    assert distinct_objects(boxes, masks=masks, max_overlap=0.5) == [0, 1]
    assert distinct_objects(boxes, masks=masks, max_overlap=0.49) == [0]
    assert distinct_objects(np.zeros((0, 4))) == []


@pytest.mark.parametrize("form", ["full", "in boxes", "crops"])
def test_what_is_hidden_of_a_mask_is_outlined_by_dashes_and_not_filled(form):
    box = (40, 40, 140, 120)
    whole, hidden = full_masks([box]), full_masks([(90, 40, 140, 120)])
    if form == "in boxes":
        hidden = torch.zeros(1, 1, 28, 28)
        hidden[..., 14:] = 0.9
    elif form == "crops":  # of other windows
        whole = [MaskCrop(np.ones((80, 100), np.uint8), 40, 40)]
        hidden = [MaskCrop(np.ones((90, 50), np.uint8), 90, 35)]
    before = image()
    found = instances([box], [0.9], [1], masks=whole, pred_hidden_masks=hidden)
    # The box has a line of its own, one pixel wide.
    after = draw_predictions(before, found, metadata=METADATA, legend=False)
    seen = changed(before, after)[42:118]
    assert seen[:, 43:88].all(), "filled"
    assert not seen[:, 92:137].any(), "not filled"
    # Inside the box's line, along the hidden right edge, are dashes and gaps.
    edge = (after[45:115, 138] == BLUE_FIRST[1]).all(axis=1)
    assert 0.3 < edge.mean() < 0.9
    assert 6 <= np.count_nonzero(np.diff(edge.astype(int))) <= 20
    nothing = instances([box], [0.9], [1], masks=full_masks([box]))
    drawn = draw_predictions(before, nothing, metadata=METADATA, legend=False)
    assert changed(before, drawn)[42:118, 92:137].all()
