"""Trials are run once, taken up again, and never mixed with those of another run."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
import yaml
from msnet_benchmark.accuracy import run_accuracy
from msnet_benchmark.trials import Launch

from msnet_d2.errors import ConfigError, DatasetError, InputError, MSNetError

D, MSNET = "mask_rcnn_D", "msnet"


def test_runs_every_method_on_every_split_and_writes_results(settings, fake):
    runner = fake({D: 6, MSNET: 0})
    run = run_accuracy(settings, [D, MSNET], Launch(runner=runner))
    # Split by split, so that there is something to compare soon.
    assert runner.ran == [
        "mask_rcnn_D, split_0",
        "msnet, split_0",
        "mask_rcnn_D, split_1",
        "msnet, split_1",
    ]
    assert run.failed == []
    # The same seed for every method of a split.
    assert [trial.cfg.SEED for trial in run.trials] == [1, 1, 2, 2]

    results = json.loads((settings.out / "results.json").read_text())
    assert [trial["method"] for trial in results["trials"]] == [D, MSNET, D, MSNET]
    # 44 and 45 by the fake runner: mean 44.5, standard deviation 1 / sqrt(2).
    ap = results["means"][D]["isbda_segm"]["AP"]
    assert ap["mean"] == 44.5
    assert ap["std"] == pytest.approx(0.5**0.5)
    assert results["means"][D]["isbda_segm"]["APm"]["mean"] is None
    assert results["failed"] == []
    assert {"command", "commit", "versions", "hardware", "settings"} <= results.keys()
    # Moved by 6 of 20 pixels, IoU is 14 / 26 = 0.54: still right at 0.5, so no figure differs.
    (ap50,) = (
        row
        for row in results["differences"]
        if (row["task"], row["metric"]) == ("isbda_segm", "AP50")
    )
    assert (ap50["method"], ap50["against"]) == (MSNET, D)
    assert (ap50["difference"] if "difference" in ap50 else ap50["value"]) == 0

    table = (settings.out / "table.md").read_text()
    assert "| Mask R-CNN+D     |     44.5 ± 0.7 |" in table
    assert "**50.5 ± 0.7**" in table
    assert "MSNet (HRPN, II) − Mask R-CNN+D" in table
    for name in ("accuracy", "levels", "differences"):
        assert (settings.out / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_a_clear_difference_is_found(settings, fake):
    # Moved by 12 of 20 pixels: IoU 8 / 32 = 0.25, right at the lowest of six thresholds alone.
    run_accuracy(settings, [D, MSNET], Launch(runner=fake({D: 12})))
    results = json.loads((settings.out / "results.json").read_text())
    (row,) = (r for r in results["differences"] if (r["task"], r["metric"]) == ("isbda_bbox", "AP"))
    assert row["value"] == pytest.approx(100 * 5 / 6)
    assert (row["low"], row["high"]) == pytest.approx((row["value"],) * 2)
    assert row["positive"] == 1


def test_finished_trials_are_not_run_again(settings, fake, capsys):
    first, second = fake(), fake()
    run_accuracy(settings, [D], Launch(runner=first))
    run_accuracy(replace(settings, splits=("0", "1", "2")), [D, MSNET], Launch(runner=second))
    assert "mask_rcnn_D, split_0" not in second.ran
    assert second.ran == [
        "msnet, split_0",
        "msnet, split_1",
        "mask_rcnn_D, split_2",
        "msnet, split_2",
    ]
    assert "[1/6] mask_rcnn_D, split_0: done before; mask AP 50.0" in capsys.readouterr().out


def test_a_failed_trial_stops_no_other_and_is_tried_again(settings, fake, capsys):
    broken = fake(fails=["mask_rcnn_D, split_0"])
    run = run_accuracy(settings, [D, MSNET], Launch(runner=broken))
    assert len(broken.ran) == 4
    assert [trial.label for trial in run.failed] == ["mask_rcnn_D, split_0"]
    assert "FAILED: out of memory" in capsys.readouterr().out
    assert "RuntimeError" in (run.failed[0].folder / "error.txt").read_text()
    results = json.loads((settings.out / "results.json").read_text())
    assert results["failed"] == [{"method": D, "split": "split_0", "why": "out of memory"}]
    assert "mask_rcnn_D, split_0: out of memory" in (settings.out / "table.md").read_text()

    again = fake()
    run = run_accuracy(settings, [D, MSNET], Launch(runner=again))
    assert again.ran == ["mask_rcnn_D, split_0"]
    assert run.failed == []
    assert not (run.trials[0].folder / "error.txt").exists()
    assert "Missing" not in (settings.out / "table.md").read_text()


def test_nothing_is_written_where_all_failed(settings, fake):
    broken = fake(fails=["msnet, split_0", "msnet, split_1"])
    assert len(run_accuracy(settings, [MSNET], Launch(runner=broken)).failed) == 2
    assert not (settings.out / "results.json").exists()
    # What failed at once leaves nothing to mix up, so the override may be mended.
    mended = replace(settings, opts=("SOLVER.MAX_ITER", "5"))
    assert run_accuracy(mended, [MSNET], Launch(runner=fake())).failed == []


def test_interruption_leaves_what_is_finished(settings, fake):
    class Interrupted(fake):
        def __call__(self, trial, how):
            if len(self.ran) == 1:
                raise KeyboardInterrupt
            return super().__call__(trial, how)

    with pytest.raises(KeyboardInterrupt):
        run_accuracy(settings, [D, MSNET], Launch(runner=Interrupted()))
    results = json.loads((settings.out / "results.json").read_text())
    assert [trial["method"] for trial in results["trials"]] == [D]
    assert results["failed"][0]["why"] == "was not run"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"opts": ("SOLVER.MAX_ITER", "5")}, "--opts is '' there, 'SOLVER.MAX_ITER 5' here"),
        ({"family": "full"}, "--config-family is 'quick' there, 'full' here"),
        ({"seed": 4}, "--seed is 1 there, 4 here"),
        ({"ratio": 0.5}, "--ratio is 0.6 there, 0.5 here"),
    ],
)
def test_a_folder_of_another_run_is_refused(settings, fake, change, message):
    run_accuracy(settings, [D], Launch(runner=fake()))
    runner = fake()
    with pytest.raises(InputError, match="holds another run") as error:
        run_accuracy(replace(settings, **change), [D, MSNET], Launch(runner=runner))
    assert message in str(error.value)
    assert runner.ran == []


def test_trials_of_other_data_or_another_variant_are_refused(settings, scenes, fake):
    words = ("mine", "msnet", "MODEL.HRPN.THRESHOLD", "0.2")
    run_accuracy(replace(settings, variants=(words,)), [D, "mine"], Launch(runner=fake()))
    other = replace(settings, variants=((*words[:3], "0.3"),))
    with pytest.raises(InputError, match=r"MODEL\.HRPN\.THRESHOLD is 0\.2 there, 0\.3 here"):
        run_accuracy(other, ["mine"], Launch(runner=fake()))
    path = scenes / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["area"] = 401
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="the annotations of the split differ"):
        run_accuracy(settings, [D], Launch(runner=fake()))


def test_keys_of_newer_versions_and_other_projects_are_no_difference(settings, fake):
    run = run_accuracy(settings, [D], Launch(runner=fake()))
    for trial in run.trials:
        path = trial.folder / "settings.yaml"
        there = yaml.safe_load(path.read_text())
        del there["config"]["MODEL"]["HRPN"]
        there["config"]["MODEL"]["SOME_PROJECT"] = {"RAYS": 36}
        path.write_text(yaml.safe_dump(there))
    again = fake()
    assert run_accuracy(settings, [D], Launch(runner=again)).failed == []
    assert again.ran == []


def test_other_peoples_folders_are_left_alone(settings, fake):
    settings.out.mkdir()
    (settings.out / "thesis.tex").write_text("…")
    with pytest.raises(InputError, match="holds other files"):
        run_accuracy(settings, [D], Launch(runner=fake()))
    assert os.listdir(settings.out) == ["thesis.tex"]
    file = settings.out / "thesis.tex"
    with pytest.raises(InputError, match="is a file"):
        run_accuracy(replace(settings, out=file), [D], Launch(runner=fake()))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"dataset": "nowhere"}, DatasetError, "there is no data set 'nowhere'"),
        ({"test": "nowhere"}, DatasetError, "there is no data set 'nowhere'"),
        ({"splits": ("a",)}, InputError, "expected seeds such as 0 1 2"),
        ({"splits": ("given",)}, DatasetError, "no split 'val'"),
        ({"opts": ("SOLVER.MAXITER", "5")}, ConfigError, "did you mean SOLVER.MAX_ITER"),
        ({"num_gpus": 0}, InputError, "--num-gpus is 0"),
        ({"num_gpus": 3}, MSNetError, ""),
        ({"srn_videos": "nowhere"}, InputError, "--srn-videos nowhere is no folder"),
        ({"family": "huge"}, InputError, "expected one of quick, full"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(settings, fake, change, error, message):
    runner = fake()
    with pytest.raises(error) as caught:
        run_accuracy(replace(settings, **change), [D], Launch(runner=runner))
    assert message in str(caught.value)
    assert runner.ran == []


def test_methods_that_need_buildings_are_refused_without(settings, fake, scenes_at, tmp_path):
    bare = scenes_at(tmp_path / "bare", houses=False)
    runner = fake()
    with pytest.raises(DatasetError, match="msnet train on the boxes of buildings"):
        run_accuracy(replace(settings, dataset=str(bare)), [D, MSNET], Launch(runner=runner))
    assert runner.ran == []
    # The others can do without; the folder is still free.
    run = run_accuracy(replace(settings, dataset=str(bare)), [D], Launch(runner=runner))
    assert run.failed == []


def test_videos_for_refinement_are_looked_at_first(settings, fake):
    # Two frames of a video are too few for a negative that is ten seconds away.
    runner = fake()
    with pytest.raises(DatasetError, match="leave out the methods that end in \\+srn"):
        run_accuracy(settings, ["msnet+srn"], Launch(runner=runner))
    assert runner.ran == []


def test_what_builds_on_a_failed_detector_fails_with_it(settings, fake, monkeypatch):
    monkeypatch.setattr("msnet_benchmark.runs.TripletDataset", lambda cfg: None)
    runner = fake(fails=["msnet, split_0"])
    run = run_accuracy(settings, ["msnet+srn"], Launch(runner=runner))
    assert runner.ran == ["msnet, split_0", "msnet, split_1", "msnet+srn, split_1"]
    assert [trial.failure for trial in run.failed] == [
        "out of memory",
        "its detector, msnet, failed",
    ]
    refined = run.trials[-1]
    cfg = refined.run_cfg(train=True)
    assert str(settings.out / "trials/split_1/msnet/model_final.pth") == cfg.MODEL.WEIGHTS
    assert refined.split.srn_videos == cfg.DATASETS.SRN_VIDEOS
    assert refined.run_cfg(train=False).MODEL.WEIGHTS.endswith("msnet+srn/model_final.pth")


def test_prepared_splits_and_the_given_one(settings, scenes, fake, tmp_path):
    from msnet_benchmark.data import prepare_splits

    from msnet_d2.data.isbda.splits import write_splits

    write_splits(str(scenes), tmp_path / "prepared", 0.6, [3, 4])
    (split,) = prepare_splits(str(tmp_path / "prepared"), ["4"], tmp_path / "unused")
    assert (split.name, split.number) == ("split_4", 4)
    assert not (tmp_path / "unused").exists()
    assert split.images == (4, 2)
    assert split.parents == 4
    assert len(set(split.video_of.values())) == 1
    with pytest.raises(DatasetError, match="holds the splits seed_3, seed_4, but no seed_5"):
        prepare_splits(str(tmp_path / "prepared"), ["5"], tmp_path / "unused")
    folder = tmp_path / "prepared" / "seed_3"
    (given,) = prepare_splits(str(folder), ["given"], tmp_path / "unused")
    assert (given.name, given.train) == ("given", f"{folder}:train")


def test_videos_of_evaluated_scenes_are_not_trained_on(scenes, tmp_path):
    from msnet_benchmark.data import prepare_splits

    videos = scenes / "videos"
    videos.mkdir()
    for name in "123":
        (videos / f"{name}.mp4").write_bytes(b"")
    (split,) = prepare_splits(str(scenes), ["0"], tmp_path / "splits", ratio=0.6)
    shown = set(split.video_of.values())
    names = {path.rsplit("/", 1)[1][0] for path in split.srn_videos}
    assert names == {"1", "2", "3"} - shown
    # Of a folder that the user names, all but the evaluated scenes are taken.
    (videos / "9.mp4").write_bytes(b"")
    (split,) = prepare_splits(
        str(scenes), ["0"], tmp_path / "splits", ratio=0.6, srn_videos=str(videos)
    )
    assert {path.rsplit("/", 1)[1][0] for path in split.srn_videos} == names | {"9"}
