"""Outputs that cannot be written are the user's to mend: one line, and no traceback."""

import pytest

from msnet_d2.cli import EXIT_DEFECT, EXIT_USER_ERROR, main


@pytest.fixture
def blocked(tmp_path):
    """A path below a file: nobody, not even root, can make a folder there."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "below"


@pytest.mark.parametrize(
    "arguments",
    [
        ["stats", "{data}", "--histogram", "{blocked}/areas.png"],
        ["split", "{data}", "--out", "{blocked}"],
        ["check", "{data}", "--json", "{blocked}/issues.json"],
        ["train", "--config-file", "{config}", "OUTPUT_DIR", "{blocked}"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_one_line_names_the_place_and_the_reason(
    arguments, blocked, tiny_data, config_file, capsys
):
    places = {"data": tiny_data, "blocked": blocked, "config": config_file}
    assert main([argument.format(**places) for argument in arguments]) == EXIT_USER_ERROR
    error = capsys.readouterr().err
    assert "Traceback" not in error
    last = error.strip().splitlines()[-1]
    assert last.startswith(f"msnet {arguments[0]}: error: ")
    assert str(blocked) in last
    assert "Not a directory" in last


def test_an_error_of_the_system_without_a_file_is_still_a_defect(monkeypatch, capsys):
    def fail(args):
        raise OSError("no file and no number")

    monkeypatch.setattr("msnet_d2.cli.doctor.run", fail)
    assert main(["doctor"]) == EXIT_DEFECT
    assert "this is a defect" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "{folder}/found.gif"], "suffix must be one of .avi"),
        (["--out", "{folder}/nowhere/found.mp4"], "nowhere for found.mp4 does not exist"),
        (["--results", "{folder}/nowhere/found.json"], "nowhere for found.json does not exist"),
    ],
)
def test_a_video_that_cannot_be_written_is_told_before_the_model_loads(
    options, message, tmp_path, capsys
):
    # There is neither the input nor the config: the output is looked at first.
    options = [option.format(folder=tmp_path) for option in options]
    assert main(["video", "none.mp4", "--config-file", "none.yaml", *options]) == EXIT_USER_ERROR
    assert message in capsys.readouterr().err
