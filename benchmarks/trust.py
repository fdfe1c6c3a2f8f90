"""Try every fault that SECURITY.md speaks of, and count: `make fuzz`, in a checkout.

Runs the tests of tests/trust in their long form, and those of videos, images and figures that make
their faults themselves; writes benchmarks/trust.md. With --short, the form that the test suite has.
How often is tried can be set by the variables MSNET_FUZZ_… below.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

from msnet_benchmark.provenance import describe_run, provenance_lines

from msnet_d2.utils.file_io import write_text

ROOT = Path(__file__).resolve().parent.parent
LONG = {
    "MSNET_FUZZ_FILES": "10000",
    "MSNET_FUZZ_ROUNDS": "2000",
    "MSNET_FUZZ_KILLS": "100",
    "MSNET_FUZZ_VIDEOS": "1000",
}
TESTS = [
    "tests/trust",
    "tests/damage_map/telemetry/test_bounds.py",
    "tests/data/test_issues_fuzz.py",
    "tests/data/test_image_issues.py",
    "tests/structures/test_rle.py",
    "tests/evaluation/test_isbda_evaluation.py",
    "tests/evaluation/test_results.py",
    "tests/video/test_video_reader.py",
    "tests/video/test_video_command.py",
    "tests/video/test_pipeline.py",
]
# Fault -> pattern of the names of tests that try it. The first that fits counts.
FAULTS = {
    "code": {
        "YAML that runs code, also through `_BASE_`": r"no_tag_runs_code",
        "alias bombs in YAML (refused in under 0.1 s)": r"alias_bombs",
        "configs that are none, recursive, endless": r"test_config_attacks::",
        "LazyConfig files": r"program_attacks::(?!.*_proposal)",
        "pickles that run code, as weights (`.pkl`)": r"no_pickle_runs_code|malformed_pickles",
        "pickles that run code, as proposals": r"program_attacks::.*_proposal",
        "torch files that run code, `weights_only` switched off outside": r"no_torch_file_runs",
        "Detectron2's and Caffe2's pickles load, protocols 0-5": r"pickled_|of_pickles|pickles_of",
        "`.safetensors` written and read; broken ones": r"safetensors",
        "wrong digests, URLs that leave the cache or carry secrets": r"digest|_url",
        "file names that leave the data folder": r"no_file_name_leaves",
        "image bombs, endless files, EPS": r"bomb|formats_that_start|what_is_no_picture|limits_can",
        "playlists as videos": r"playlist",
    },
    "data and figures": {
        "annotation files with spoiled values": r"no_file_crashes.*data set|test_issues_fuzz",
        "prediction files with spoiled values": r"s_all_memory.*predict|test_results::|a_map_are",
        "NaN, inf, 1e9 in polygons and boxes": r"crash_pycocotools",
        "run lengths that do not fill the image": r"run_lengths|checked_rle",
        "duplicate ids, orphans, ids as text": r"contradictions|sound_files",
        "images missing, unknown, twice, also on several ranks": r"repeated_images|all_ranks",
        "NaN and infinite scores and boxes": r"that_are_no_numbers_are_errors",
        "stale conversions of ground truth": r"conversion_left",
        "annotation id 0, more objects than detections count": r"with_id_0|more_objects",
        "figures otherwise: by hand, and as Detectron2's": r"isbda_evaluation",
        "damaged images": r"image_issues|damaged_picture|ends_early",
        "images of 16 bits, and turned ones with their boxes": r"sixteen_bits_and|turned_picture",
    },
    "output folders": {
        "kill -9 at each stage of a run": r"killed_at_any|outlive_a_kill|killed_run_left",
        "two runs into one place": r"second_run|killed_run_is|every_command_refuses|begin_at_once",
        "files of others in a folder, inputs in it, names": r"test_output_folders::",
    },
    "what cannot be seen": {
        "configs that blind a model, numbers that YAML misreads": r"blinds|refuses_it|device|yaml",
        "weights of other numbers, forms and sizes": r"test_blind_models::|test_legacy_weights::",
        "frames that an mp4 hides": r"hides_are_lost|leaves_out_are_lost|plain_clip",
    },
    "files and names": {
        "pipes, devices and folders, by reader": r"pipes_devices",
        "files that state more than they hold": r"test_hostile_files::",
        "results of videos that grow: polygons, texts, frames": r"test_results_attacks::",
        "flight logs that grow: records, levels, columns, outliers": r"test_bounds::",
        "links that lead out of a folder": r"test_links::",
        "names and texts of others, one bad video of many": r"test_hostile_names::",
    },
    "training": {
        "NaN and infinity injected into training": r"no_checkpoint_is_not_finite|large_gradients",
        "models that overflow, NaN pixels": r"broken_models",
        "kill -9 while saving": r"killed_while_saving",
        "kill -9 of whole trainings, then equal weights bit for bit": r"killed_again",
        "resumed training equals an uninterrupted one": r"resumed_training|number_of_workers",
        "full disk": r"full_disk|real_full_device",
        "missing, broken, unrelated checkpoints": r"missing_or_broken|unrelated",
        "the best checkpoint as the one to resume from": r"best_checkpoint",
    },
    "video": {
        "tiny videos, 5 % bad, workers and runs killed": r"whoever_is_killed",
        "batches otherwise": r"video_batches",
        "truncated, corrupt, irregular, no videos": r"video_reader|video_command",
        "errors and interruptions in between": r"test_pipeline",
        "folders and secrets in results, maps, batches": r"shared_outputs",
    },
}


def main() -> int:
    """Run, count, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="as in the test suite")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "trust.md")
    args = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:warnings",
            f"--junitxml={report}",
        ]
        environment = {**({} if args.short else LONG), **os.environ}
        done = subprocess.run([*command, *TESTS], cwd=ROOT, env=environment)
        if not report.is_file():
            return done.returncode or 1
        counts, others = count(report)
    minutes = (time.monotonic() - start) / 60
    write_text(args.out, page(counts, others, minutes, "short" if args.short else "long"))
    print(f"Wrote {args.out}")
    return done.returncode


def count(report: Path) -> tuple[dict[str, list[int]], list[int]]:
    """Tries and survivals by fault, and those of tests that belong to none."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    others = [0, 0]
    for case in ET.parse(report).getroot().iter("testcase"):
        if case.find("skipped") is not None:
            continue
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        properties = {p.get("name"): p.get("value") for p in case.iter("property")}
        failed = case.find("failure") is not None or case.find("error") is not None
        tried = int(properties.get("tried", 1))
        survived = int(properties.get("survived", 0 if failed else tried))
        row = next(
            (
                counts[fault]
                for faults in FAULTS.values()
                for fault, pattern in faults.items()
                if re.search(pattern, name)
            ),
            others,
        )
        row[0] += tried
        row[1] += survived
    return counts, others


def page(counts: dict[str, list[int]], others: list[int], minutes: float, form: str) -> str:
    """The table, as Markdown."""
    # As it is typed: where it was written does not matter.
    command = "make fuzz" if form == "long" else "python benchmarks/trust.py --short"
    chosen = [f"{name}={os.environ[name]}" for name in LONG if name in os.environ]
    command = " ".join([*chosen, command])
    lines = [
        "# Faults tried, faults survived",
        "",
        "Survived means: refused with an error of this project, or handled as `SECURITY.md` says, "
        "without running code, crashing, hanging or losing anything. Written by `make fuzz`.",
        "",
        *provenance_lines({**describe_run(), "command": command}),
        f"- {form} form, {minutes:.0f} minutes",
        "",
        "| what | fault | tried | survived |",
        "|---|---|---:|---:|",
    ]
    for part, faults in FAULTS.items():
        for fault in faults:
            tried, survived = counts.get(fault, [0, 0])
            lines.append(f"| {part} | {fault} | {tried:,} | {survived:,} |")
    if others[0]:
        lines.append(f"| | others | {others[0]:,} | {others[1]:,} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
