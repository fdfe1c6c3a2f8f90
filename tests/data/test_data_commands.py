"""msnet check, msnet stats and msnet split, as a user calls them."""

from __future__ import annotations

import json

import pytest

from msnet_d2.cli import main


@pytest.fixture
def folder(isbda_content, write_isbda, tmp_path):
    write_isbda(isbda_content, "train")
    isbda_content["images"][0]["file_name"] = "6_100.png"
    isbda_content["images"][1]["file_name"] = "6_110.png"
    write_isbda(isbda_content, "val")
    return tmp_path / "data"


class TestCheck:
    def test_a_sound_data_set(self, folder, capsys):
        assert main(["check", str(folder)]) == 0
        output = capsys.readouterr().out
        assert "data_train: " in output
        assert "data_val: " in output
        assert output.endswith("no issues\n")

    def test_issues_are_grouped_counted_and_written(
        self, folder, isbda_content, write_isbda, capsys
    ):
        first, second, third = isbda_content["annotations"]
        first["category_id"] = third["category_id"] = 9
        second["damage_bbox"] = [1, 1, 0, 1]
        write_isbda(isbda_content, "val")
        (folder / "val" / "6_110.png").write_bytes(b"x")
        out = folder / "issues.json"
        assert main(["check", f"{folder}:val", "--json", str(out)]) == 1
        output = capsys.readouterr().out
        assert "fatal: training and evaluation refuse the data set\n  unknown-category (2)\n" in (
            output
        )
        assert "    image 1, annotation 1: category_id 9 is none of 1, 2, 3\n" in output
        assert "  unreadable-image (1)\n    image 2: " in output
        assert "dropped: left out on loading\n  empty-box (1)\n" in output
        assert output.endswith("4 issues: 3 fatal, 1 dropped, 0 kept\n")
        written = json.loads(out.read_text())
        assert len(written) == 4
        assert {
            "dataset": "data_val",
            "severity": "dropped",
            "kind": "empty-box",
            "image_id": 1,
            "annotation_id": 2,
            "message": "damage_bbox [1, 1, 0, 1] has no width or height",
        } in written

    def test_images_are_left_alone_when_asked(self, folder, capsys):
        (folder / "val" / "6_110.png").unlink()
        assert main(["check", str(folder), "--no-images"]) == 0
        assert capsys.readouterr().out.endswith("no issues (images were not opened)\n")
        assert main(["check", str(folder)]) == 1

    def test_exit_codes_of_harmless_issues(self, folder, isbda_content, write_isbda, capsys):
        isbda_content["annotations"][0]["damage_bbox"] = [1, 1, 0, 1]
        write_isbda(isbda_content, "val")
        assert main(["check", str(folder)]) == 1
        assert main(["check", str(folder), "--fatal-only"]) == 0

    def test_a_long_list_is_cut_unless_asked_for(self, folder, isbda_content, write_isbda, capsys):
        template = isbda_content["annotations"][0]
        isbda_content["annotations"] = [
            {**template, "id": i, "category_id": 9} for i in range(1, 31)
        ]
        write_isbda(isbda_content, "val")
        command = ["check", f"{folder}:val", "--no-images"]
        assert main(command) == 1
        output = capsys.readouterr().out
        assert output.count("category_id 9") == 20
        assert "… and 10 more; --limit 0 prints all" in output
        main([*command, "--limit", "0"])
        assert capsys.readouterr().out.count("category_id 9") == 30

    def test_an_image_folder_of_its_own(self, folder, tmp_path, capsys):
        labels = tmp_path / "elsewhere" / "labels.json"
        labels.parent.mkdir()
        labels.write_bytes((folder / "annotations" / "instances_val.json").read_bytes())
        assert main(["check", str(labels)]) == 1  # no pictures beside it
        output = capsys.readouterr().out
        assert "missing-image (2)" in output
        assert "none of the 2 images is there: give their folder by --image-root" in output
        assert main(["check", str(labels), "--image-root", str(folder / "val")]) == 0

    def test_what_is_no_json_is_a_issue_and_what_is_not_there_an_error(self, tmp_path, capsys):
        (tmp_path / "x.json").write_text("{")
        assert main(["check", str(tmp_path / "x.json")]) == 1
        assert "is not JSON" in capsys.readouterr().out
        assert main(["check", str(tmp_path / "y.json")]) == 2
        assert "there is no data set" in capsys.readouterr().err


class TestStats:
    def test_a_table_for_each_split_and_for_all(self, folder, capsys):
        picture = folder / "areas.png"
        assert main(["stats", str(folder), "--histogram", str(picture)]) == 0
        output = capsys.readouterr().out
        # Areas 400, 1600 and 400 pixels: small, medium, small; twice.
        assert "data_train\n" in output
        assert "Severe         0         1        0        1\n" in output
        assert "all\n" in output
        assert "total          4         2        0        6\n" in output
        # Two buildings in the first picture, one in the second.
        assert "4 images (0 without annotations), 2 videos, 6 instances, 6 buildings\n" in output
        assert picture.read_bytes().startswith(b"\x89PNG")

    def test_what_is_left_out_is_said(self, folder, isbda_content, write_isbda, capsys):
        isbda_content["annotations"][0]["damage_bbox"] = [1, 1, 0, 1]
        write_isbda(isbda_content, "val")
        assert main(["stats", f"{folder}:val"]) == 0
        assert "1 unusable annotations or polygons are left out" in capsys.readouterr().out

    def test_mistakes(self, folder, isbda_content, write_isbda, capsys):
        assert main(["stats", str(folder), "--histogram", "x.pdf"]) == 2
        assert "must end in .png" in capsys.readouterr().err
        isbda_content["annotations"][0]["category_id"] = 9
        write_isbda(isbda_content, "val")
        assert main(["stats", str(folder)]) == 2
        assert "unknown-category" in capsys.readouterr().err


class TestSplit:
    def test_three_splits(self, folder, tmp_path, capsys):
        out = tmp_path / "splits"
        arguments = ["--by", "video", "--ratio", "0.5", "--seeds", "0", "1", "2"]
        assert main(["split", str(folder), *arguments, "--out", str(out)]) == 0
        output = capsys.readouterr().out
        for seed in (0, 1, 2):
            assert str(out / f"seed_{seed}") in output
            assert main(["check", str(out / f"seed_{seed}")]) == 0
        assert output.count("50.0%") == 3

    @pytest.mark.parametrize("ratio", ["0", "1", "80"])
    def test_mistakes(self, folder, tmp_path, capsys, ratio):
        assert main(["split", str(folder), "--out", str(tmp_path / "o"), "--ratio", ratio]) == 2
        assert "between 0 and 1" in capsys.readouterr().err

    def test_one_scene(self, folder, tmp_path, capsys):
        assert main(["split", f"{folder}:val", "--out", str(tmp_path / "o")]) == 2
        assert "has one scene" in capsys.readouterr().err
