"""Completion of commands and options in a shell."""

import shutil
import subprocess

import pytest

from msnet_d2.cli import main


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_script_knows_commands_and_options(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("doctor", "predict", "--min-score", "--config-file"):
        assert word in script


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_a_command_and_an_option(capsys, tmp_path):
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "msnet.sh"
    script.write_text(capsys.readouterr().out)
    ask = (
        f". {script}; COMP_WORDS=({{}}); COMP_CWORD=$(( ${{{{#COMP_WORDS[@]}}}} - 1 )); "
        '_shtab_msnet; echo "${{COMPREPLY[@]}}"'
    )
    for words, expected in (("msnet pre", "predict"), ("msnet video --min-s", "--min-score")):
        done = subprocess.run(["bash", "-c", ask.format(words)], capture_output=True, text=True)
        assert done.stdout.strip() == expected, done.stderr
