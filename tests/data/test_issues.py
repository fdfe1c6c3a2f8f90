"""Every issue of a JSON is found, alone and with the ids it concerns."""

from __future__ import annotations

import json
import os

import pytest

from msnet_d2.data import find_issues, load_isbda_json
from msnet_d2.data.isbda.issues import Issue
from msnet_d2.errors import DatasetError


def image(**changes):
    return lambda content: content["images"][1].update(changes)


def part(**changes):
    """Change annotation 2, which is of image 1, a frame of 100x80 pixels."""
    return lambda content: content["annotations"][1].update(changes)


def without(key):
    return lambda content: content["annotations"][1].pop(key)


def polygon(*coordinates):
    return part(segmentation=[list(coordinates)])


def categories(*entries):
    return lambda content: content.update(categories=[*entries])


LEVELS = [{"id": i, "name": str(i)} for i in (1, 2, 3)]
NAN, INFINITE = float("nan"), float("inf")
SQUARE = [50, 20, 90, 20, 90, 60, 50, 60]

# severity, kind, image id, annotation id, what is done to a sound file, and why it is an issue.
CASES = [
    # Structure of the file
    ("fatal", "json", None, None, lambda c: c.pop("images"), "nothing can be loaded"),
    ("fatal", "json", None, None, lambda c: c.update(annotations={}), "a list is expected"),
    ("fatal", "image-field", None, None, lambda c: c["images"].append("x"), "no object"),
    ("fatal", "annotation-field", None, None, lambda c: c["annotations"].append(7), "no object"),
    # Categories
    ("fatal", "duplicate-category", None, None, categories(*LEVELS, {"id": 3, "name": "x"}),
     "which of the two is meant?"),
    ("fatal", "duplicate-category", None, None, categories(*LEVELS, {"id": 9, "name": "Debris"}),
     "two ids of one level cannot be told apart in results"),
    ("fatal", "categories", None, None, categories(*LEVELS, {"id": "4", "name": "x"}),
     "ids are integers in COCO's API"),
    ("fatal", "unknown-category", 1, 2, part(category_id=4), "no such category"),
    ("fatal", "unknown-category", 1, 2, part(category_id="2"), "text never equals an integer id"),
    ("fatal", "unknown-category", 1, 2, part(category_id=True), "JSON's true is not the number 1"),
    # Images
    ("fatal", "duplicate-image-id", 1, None,
     lambda c: c["images"].append(dict(c["images"][0], file_name="6_1.png")),
     "annotations of two pictures would be mixed"),
    ("fatal", "duplicate-file-name", 2, None, image(file_name="./5_100.png", frame_index=110),
     "one picture with half of its annotations each time"),
    ("fatal", "image-id", None, None,
     lambda c: c["images"].append({"id": "3", "file_name": "x.png", "width": 9, "height": 9}),
     "results have integer ids"),
    ("fatal", "image-field", 2, None, image(width=0), "annotation 3 has no frame to be in"),
    ("fatal", "image-field", 2, None, image(height=80.5), "no number of pixels"),
    ("fatal", "image-field", 2, None, image(height=10**9), "masks would take all memory"),
    ("fatal", "file-name", 2, None, image(file_name="../5_110.png"), "leaves by its parent"),
    ("fatal", "file-name", 2, None, image(file_name="a/../../5_110.png"), "leaves further on"),
    ("fatal", "file-name", 2, None, image(file_name="..\\5_110.png"), "leaves on Windows"),
    ("fatal", "file-name", 2, None, image(file_name="/etc/5_110.png"), "absolute"),
    ("fatal", "file-name", 2, None, image(file_name="C:\\5_110.png"), "absolute on Windows"),
    ("fatal", "file-name", 2, None, image(file_name="http://host/5_110.png"), "on the network"),
    ("fatal", "file-name", 2, None, image(file_name="5_110.png\0"), "ends early in C"),
    ("fatal", "file-name", 2, None, image(file_name="\ud800_1.png"), "no file can have the name"),
    ("fatal", "file-name", 2, None, image(file_name=None), "no name"),
    ("fatal", "file-name", 2, None, image(file_name="x" * 5000), "no system opens such a path"),
    ("fatal", "video-field", 2, None, image(frame_index=-1), "frames count from 0"),
    ("fatal", "video-field", 2, None, image(frame_index="7"), "text cannot be counted"),
    ("fatal", "video-field", 2, None, image(fps=0), "time between frames would be infinite"),
    ("fatal", "video-field", 2, None, image(fps=NAN), "no rate"),
    ("fatal", "video-field", 2, None, image(video_id=[5]), "no name"),
    ("kept", "duplicate-frame", 2, None, image(frame_index=100), "which follows which?"),
    # Annotations: ids
    ("fatal", "duplicate-annotation-id", 1, 1, part(id=1), "one would hide the other"),
    ("fatal", "annotation-id", None, None, part(id="2"), "text"),
    ("fatal", "annotation-id", None, None, part(id=2.0), "no integer"),
    ("fatal", "annotation-id", None, None, part(id=2**60), "lost in double precision"),
    ("fatal", "annotation-id", None, None, without("id"), "cannot be told apart"),
    ("kept", "annotation-id-0", 1, 0, part(id=0), "0 means 'no match' in pycocotools"),
    ("fatal", "unknown-image", 3, 2, part(image_id=3), "an orphan"),
    ("fatal", "unknown-image", "1", 2, part(image_id="1"), "text never equals an integer id"),
    ("fatal", "annotation-field", 1, 2, part(iscrowd=2), "neither yes nor no"),
    ("fatal", "annotation-field", 1, 2, part(parent_id="7"), "no integer"),
    ("kept", "area", 1, 2, part(area=-1), "an area is positive; the mask's is taken"),
    ("kept", "area", 1, 2, part(area=NAN), "the mask's is taken"),
    # Annotations: boxes
    ("fatal", "malformed-box", 1, 2, without("damage_bbox"), "no box at all"),
    ("fatal", "malformed-box", 1, 2, part(bbox=[]), "an empty bbox is not an absent one"),
    ("fatal", "malformed-box", 1, 2, part(damage_bbox=[50, 20, 40]), "three numbers"),
    ("fatal", "malformed-box", 1, 2, part(damage_bbox=[50, 20, 40, "40"]), "text"),
    ("fatal", "malformed-box", 1, 2, part(damage_bbox=[50, 20, 40, True]), "not a number"),
    ("fatal", "non-finite-box", 1, 2, part(damage_bbox=[50, 20, 40, NAN]), "NaN spreads to losses"),
    ("fatal", "non-finite-box", 1, 2, part(damage_bbox=[50, 20, INFINITE, 40]), "infinite"),
    ("fatal", "non-finite-box", 1, 2, part(damage_bbox=[50, 20, 10**400, 40]), "no float holds it"),
    ("fatal", "negative-box", 1, 2, part(damage_bbox=[90, 20, -40, 40]), "corners swapped?"),
    ("dropped", "empty-box", 1, 2, part(damage_bbox=[50, 20, 0, 40]), "log(0) in the box loss"),
    ("dropped", "empty-box", 1, 2, part(damage_bbox=[50, 20, 1e-300, 40]), "no width to speak of"),
    ("dropped", "box-outside", 1, 2, part(damage_bbox=[100, 20, 40, 40]), "starts where it ends"),
    ("kept", "box-beyond-frame", 1, 2,
     lambda c: c["annotations"][1].update(damage_bbox=[50, 20, 55, 40], segmentation=[SQUARE],
                                          house_bbox=[45, 10, 55, 60]), "5 pixels; it is clipped"),
    ("fatal", "no-house-bbox", 1, 2, without("house_bbox"), "others have one; HRPN needs it"),
    ("fatal", "negative-box", 1, 2, part(house_bbox=[45, 10, -50, 60]), "the house's box as well"),
    ("dropped", "empty-box", 1, 2, part(house_bbox=[45, 10, 0, 60]), "the house's box as well"),
    ("kept", "outside-parent", 1, 2, part(house_bbox=[0, 0, 20, 20]), "it lies in another house"),
    ("kept", "box-mask-mismatch", 1, 2, part(damage_bbox=[50, 20, 10, 10]), "IoU 100 / 1600"),
    # Annotations: masks
    ("dropped", "no-mask", 1, 2, without("segmentation"), "others have one"),
    ("dropped", "no-mask", 1, 2, part(segmentation=[]), "empty is absent"),
    ("dropped", "polygon-points", 1, 2, polygon(50, 20, 90, 60), "two points"),
    ("dropped", "polygon-points", 1, 2, polygon(50, 20, 90, 60, 50, 20), "a closed line"),
    ("dropped", "polygon-points", 1, 2, polygon(50, 20, 70, 20, 90, 20), "on one line"),
    ("dropped", "polygon-points", 1, 2, polygon(*SQUARE, 1), "an x without a y"),
    ("dropped", "polygon-outside", 1, 2, polygon(100, 0, 120, 0, 120, 20), "starts where it ends"),
    ("dropped", "polygon-outside", 1, 2, polygon(0, -9, 50, -9, 50, -1), "above the frame"),
    ("kept", "polygon-beyond-frame", 1, 2, polygon(50, 20, 95, 20, 95, 60, 50, 82),
     "2 pixels below; rasterising clips it"),
    ("fatal", "malformed-polygon", 1, 2, part(segmentation=SQUARE), "a list too few"),
    ("fatal", "malformed-polygon", 1, 2, polygon("50", *SQUARE[1:]), "text"),
    ("fatal", "malformed-polygon", 1, 2, part(segmentation="x"), "neither polygons nor RLE"),
    ("fatal", "non-finite-polygon", 1, 2, polygon(NAN, *SQUARE[1:]), "crashes pycocotools"),
    ("fatal", "non-finite-polygon", 1, 2, polygon(INFINITE, *SQUARE[1:]), "crashes pycocotools"),
    ("fatal", "non-finite-polygon", 1, 2, polygon(1e9, *SQUARE[1:]), "takes all memory"),
    ("fatal", "non-finite-polygon", 1, 2, polygon(*[0, 0, 100, 80] * 100, *SQUARE),
     "each of 200 edges is short, all together they take memory without end"),
    ("fatal", "malformed-rle", 1, 2, part(segmentation={"size": [80, 100], "counts": [7999]}),
     "one pixel short: stale memory would be read"),
    ("fatal", "malformed-rle", 1, 2, part(segmentation={"size": [80, 100], "counts": [8001]}),
     "one pixel over: memory would be overwritten"),
    ("fatal", "malformed-rle", 1, 2, part(segmentation={"size": [100, 80], "counts": [8000]}),
     "width and height swapped"),
    ("fatal", "malformed-rle", 1, 2, part(segmentation={"size": [80, 100], "counts": [8001, -1]}),
     "negative"),
    ("fatal", "malformed-rle", 1, 2, part(segmentation={}), "no counts"),
    ("dropped", "empty-mask", 1, 2, part(segmentation={"size": [80, 100], "counts": [8000]}),
     "no pixel set"),
]  # fmt: skip
IDS = [f"{i}-{case[1]}-{case[5][:25]}" for i, case in enumerate(CASES)]


@pytest.fixture
def spoilt(isbda_content, write_isbda, request):
    request.param(isbda_content)
    return write_isbda(isbda_content, pictures=False)


@pytest.mark.parametrize(
    ("spoilt", "severity", "kind", "image_id", "annotation_id"),
    [(case[4], *case[:4]) for case in CASES],
    ids=IDS,
    indirect=["spoilt"],
)
def test_one_issue_is_found_alone(spoilt, severity, kind, image_id, annotation_id):
    issues = find_issues(*spoilt, check_images=False)
    found = [(f.severity, f.kind, f.image_id, f.annotation_id) for f in issues]
    assert found == [(severity, kind, image_id, annotation_id)]

    # Loading is of one mind with the check.
    if severity == "fatal":
        with pytest.raises(DatasetError, match=f"has a fatal issue:\n  {kind}: "):
            load_isbda_json(*spoilt)
    else:
        loaded = {a["id"] for record in load_isbda_json(*spoilt) for a in record["annotations"]}
        expected = {1, 3} if severity == "dropped" else {1, annotation_id or 2, 3}
        if kind == "annotation-id-0":
            expected = {0, 1, 3}
        assert loaded == expected


def test_a_sound_file_has_none(isbda_content, write_isbda):
    assert find_issues(*write_isbda(isbda_content)) == []


def test_a_polygon_can_go_while_its_annotation_stays(isbda_content, write_isbda):
    isbda_content["annotations"][1]["segmentation"].append([1, 1, 2, 2])
    files = write_isbda(isbda_content, pictures=False)
    assert [f.kind for f in find_issues(*files, check_images=False)] == ["polygon-points"]
    annotation = load_isbda_json(*files)[0]["annotations"][1]
    assert annotation["segmentation"] == [[50, 20, 90, 20, 90, 60, 50, 60]]


def test_all_issues_come_at_once(isbda_content, write_isbda):
    for annotation in isbda_content["annotations"]:
        annotation["category_id"] = 9
        annotation["damage_bbox"] = [1, 1, -1, 1]
    issues = find_issues(*write_isbda(isbda_content, pictures=False), check_images=False)
    expected = [
        (kind, image_id, annotation_id)
        for image_id, annotation_id in ((1, 1), (1, 2), (2, 3))
        for kind in ("unknown-category", "negative-box")
    ]
    assert [(f.kind, f.image_id, f.annotation_id) for f in issues] == expected


def test_the_error_counts_all_and_shows_ten(isbda_content, write_isbda):
    template = isbda_content["annotations"][0]
    isbda_content["annotations"] = [{**template, "id": i, "category_id": 9} for i in range(1, 13)]
    files = write_isbda(isbda_content, pictures=False)
    with pytest.raises(DatasetError) as caught:
        load_isbda_json(*files)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{files[0]} has 12 fatal issues:"
    assert lines[1] == (
        "  unknown-category: image 1, annotation 1: category_id 9 is none of 1, 2, 3"
    )
    assert len([line for line in lines if "unknown-category" in line]) == 10
    assert lines[-1] == "  … and 2 more; `msnet check` prints all"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"[]", "must be an object"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),  # deeper than Python's recursion goes
        (b'{"images": [], "annotations": [], "categories": [' + b"9" * 5000 + b"]}", "is not JSON"),
        (b'{"images": [], "annotations": []}', "needs a list of categories"),
    ],
)
def test_what_is_no_data_set_is_one_issue(tmp_path, content, message):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    (issue,) = find_issues(path, tmp_path)
    assert issue.fatal
    assert message in issue.message


def test_a_missing_file_is_a_issue(tmp_path):
    (issue,) = find_issues(tmp_path / "none.json", tmp_path)
    assert "cannot be read: No such file" in issue.message


def test_symbolic_links_may_not_leave_the_folder(isbda_content, write_isbda, tmp_path):
    json_file, root = write_isbda(isbda_content)
    inside, outside = root / "5_110.png", tmp_path / "outside.png"
    os.replace(inside, outside)
    inside.symlink_to(outside)
    (issue,) = find_issues(json_file, root)
    assert (issue.kind, issue.image_id) == ("file-name", 2)

    # Through a folder as well.
    isbda_content["images"][1]["file_name"] = "way/out.png"
    (root / "way").symlink_to(tmp_path, target_is_directory=True)
    json_file.write_text(json.dumps(isbda_content))
    (issue,) = find_issues(json_file, root, check_images=False)
    assert (issue.kind, issue.image_id) == ("file-name", 2)


def test_links_inside_the_folder_and_to_the_folder_are_fine(isbda_content, write_isbda, tmp_path):
    json_file, root = write_isbda(isbda_content)
    os.replace(root / "5_110.png", root / "real.png")
    (root / "5_110.png").symlink_to("real.png")
    (tmp_path / "alias").symlink_to(root, target_is_directory=True)
    assert find_issues(json_file, tmp_path / "alias") == []


def test_text_of_a_issue_is_short_whatever_the_file_says(isbda_content, write_isbda):
    isbda_content["annotations"][1]["category_id"] = ["x" * 10_000] * 10_000
    (issue,) = find_issues(*write_isbda(isbda_content, pictures=False), check_images=False)
    assert len(str(issue)) < 600


def test_issues_name_what_they_concern():
    assert str(Issue("fatal", "k", 3, 17, "is wrong")) == "image 3, annotation 17: is wrong"
    assert str(Issue("fatal", "k", 3, None, "is wrong")) == "image 3: is wrong"
    assert str(Issue("fatal", "k", None, None, "is wrong")) == "is wrong"
