"""The files that the page is made of: its strings, its scripts, its security policy."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from importlib import resources

import pytest

from msnet_d2.damage_map.buildings.assessment import (
    Rules,
    _evidence_reasons,
    _level_reasons,
    _place_reasons,
)
from msnet_d2.damage_map.buildings.levels import LEVELS, Vote
from msnet_d2.damage_map.output.page.bundle import bundle, joined_scripts

FILES = resources.files("msnet_d2.damage_map.output.page")
STRINGS = json.loads(FILES.joinpath("strings.json").read_text(encoding="utf-8"))
SCRIPTS = [f for f in FILES.joinpath("scripts").iterdir() if f.name.endswith(".js")]


def placeholders(text):
    return Counter(re.findall(r"\{(\w+)\}", text))


@pytest.mark.parametrize("language", ["de", "es", "fr"])
def test_each_language_has_every_string_with_the_same_placeholders(language):
    assert list(STRINGS[language]) == list(STRINGS["en"])
    for key, text in STRINGS["en"].items():
        assert STRINGS[language][key].strip(), key
        assert placeholders(STRINGS[language][key]) == placeholders(text), key


def test_every_string_is_used_and_every_key_that_is_used_is_there():
    page = FILES.joinpath("page.html").read_text(encoding="utf-8")
    text = page + "".join(f.read_text(encoding="utf-8") for f in SCRIPTS)
    keys = set(STRINGS["en"])
    for key in set(re.findall(r'data-(?:text|label)="(\w+)"', page)) | set(
        re.findall(r'\bt\("(\w+)"', text)
    ):
        assert key in keys, key
    for key in re.findall(r'\bplural\("(\w+)"', text):
        assert {f"{key}_one", f"{key}_other"} <= keys, key
    # Parts of names are put together in scripts: level_1, column_id, found_one.
    made = ("level_", "meaning_", "fema_", "column_", "reason_", "choose_")
    for key in keys:
        name = re.sub(r"_(one|other)$", "", key)
        assert key.startswith(made) or f'"{name}"' in text, key


def test_every_reason_to_review_is_known_to_the_page():
    rules = Rules(min_confidence=0.5, min_observations=3)
    reasons = _evidence_reasons(Vote.of([(1, 0.2)]), 1, rules)
    reasons += _evidence_reasons(Vote.of([(1, 0.9), (1, 0.9)]), 2, rules)
    reasons += _level_reasons(Vote.of([(1, 0.5), (2, 0.5)]), LEVELS[2])
    reasons += _level_reasons(Vote.of([(1, 0.9)]), LEVELS[3])
    reasons += _place_reasons(None, None)
    reasons += _place_reasons(None, 40.0)
    assert len(reasons) == 7
    templates = [v for k, v in STRINGS["en"].items() if k.startswith("reason_")]
    patterns = [re.sub(r"\\\{\w+\\\}", "(.+)", re.escape(t)) for t in templates]
    for reason in reasons:
        assert any(re.fullmatch(p, reason) for p in patterns), reason


def test_the_policy_allows_the_page_s_own_style_and_script_and_no_other():
    page = bundle({"name": "</script><script>alert(1)</script>"}, ())
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none';")
    for kind, pattern in (
        ("style-src", r"<style>(.*?)</style>"),
        ("script-src", r'<script type="module">(.*?)</script>'),
    ):
        (text,) = re.findall(pattern, page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert page.count("<script") == 3
    # What the policy would refuse: handlers and styles as attributes.
    assert not re.search(r'\s(style|on\w+)="', page)


def test_all_scripts_are_in_the_page_each_once():
    joined = joined_scripts()
    assert not re.search(r"^(import|export)\b", joined, re.MULTILINE)
    for script in SCRIPTS:
        lines = [
            line.removeprefix("export ")
            for line in script.read_text(encoding="utf-8").splitlines()
            if re.match(r"(export )?(function|class|const) \w+", line)
        ]
        assert all(joined.count(f"{line}\n") == 1 for line in lines), script.name


def test_no_line_of_the_page_s_files_is_over_100_characters():
    for file in [*SCRIPTS, FILES.joinpath("page.html"), *FILES.joinpath("styles").iterdir()]:
        longest = max(file.read_text(encoding="utf-8").splitlines(), key=len)
        assert len(longest) <= 100, (file.name, longest)
