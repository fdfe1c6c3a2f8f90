"""Projects plug in by an entry point; a broken one disturbs only itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from detectron2.modeling import META_ARCH_REGISTRY

import msnet_d2
from msnet_d2.cli import main
from msnet_d2.cli.doctor import diagnose
from msnet_d2.config import get_msnet_cfg
from msnet_d2.data import MAPPER_REGISTRY, TEST_LOADER_REGISTRY, TRAIN_LOADER_REGISTRY
from msnet_d2.data.loading.build import build_mapper
from msnet_d2.engine import MSNetTrainer, evaluate, train
from msnet_d2.errors import ConfigError
from msnet_d2.evaluation import EVALUATOR_REGISTRY
from msnet_d2.inference import Predictor
from msnet_d2.projects import installed_projects

CONFIG = """
from detectron2.config import CfgNode
def add_config(cfg):
    cfg.MODEL.FLOODS = CfgNode({"DEPTH": 3})
"""
COMMAND = '''
"""Print a word."""
HELP = "print a word"
def add_arguments(parser):
    parser.add_argument("--word", default="water")
def run(args):
    print("the word is", args.word)
    return 0
'''
COMPONENTS = """
from detectron2.evaluation import DatasetEvaluator
from msnet_d2.data import (
    MAPPER_REGISTRY, TEST_LOADER_REGISTRY, TRAIN_LOADER_REGISTRY, ISBDADatasetMapper)
from msnet_d2.data.loading.build import ImageTestLoader, ImageTrainLoader
from msnet_d2.evaluation import EVALUATOR_REGISTRY

@MAPPER_REGISTRY.register()
class FloodMapper(ISBDADatasetMapper):
    def __call__(self, record):
        return {**super().__call__(record), "water": 7}

@TRAIN_LOADER_REGISTRY.register()
def FloodTrainLoader(cfg):
    return ([item for item in batch] for batch in ImageTrainLoader(cfg))

@TEST_LOADER_REGISTRY.register()
def FloodTestLoader(cfg, name):
    return list(ImageTestLoader(cfg, name))[:1]

@EVALUATOR_REGISTRY.register()
class CountWater(DatasetEvaluator):
    def __init__(self, cfg, name, output_folder):
        self.name = name
    def reset(self):
        self.water = 0
    def process(self, inputs, outputs):
        self.water += sum(item["water"] for item in inputs)
    def evaluate(self):
        return {"floods": {"water": self.water, "set": len(self.name)}}
"""
FLOODS = {
    "brings": 'add_config="floods.config:add_config", components=("floods.components",), '
    'commands={"flood": "floods.command"}',
    "config": CONFIG,
    "command": COMMAND,
}


@pytest.fixture
def forget_registered():
    """Take back what a project of a test registers."""
    registries = (
        MAPPER_REGISTRY,
        TRAIN_LOADER_REGISTRY,
        TEST_LOADER_REGISTRY,
        EVALUATOR_REGISTRY,
        META_ARCH_REGISTRY,
    )
    before = [dict(registry._obj_map) for registry in registries]
    yield
    for registry, objects in zip(registries, before, strict=True):
        registry._obj_map.clear()
        registry._obj_map.update(objects)


def project(name):
    (found,) = (p for p in installed_projects() if p.name == name)
    return found


def doctor_on(name):
    (found,) = (f for f in diagnose() if f.name == f"project {name}")
    return found


def test_keys_and_commands_come_with_a_project(add_project, capsys):
    add_project("Floods", **{**FLOODS, "components": ""})
    assert get_msnet_cfg(None, ["MODEL.FLOODS.DEPTH", "5"]).MODEL.FLOODS.DEPTH == 5
    assert main(["flood", "--word", "ice"]) == 0
    assert capsys.readouterr().out == "the word is ice\n"
    assert doctor_on("Floods").status == "ok"
    assert doctor_on("Floods").detail == "1.2: made up for a test"


def test_mapper_loaders_and_evaluator_come_with_a_project(
    add_project, forget_registered, train_cfg
):
    add_project("Floods", **FLOODS, components=COMPONENTS)
    # As a user would: by the keys alone.
    opts = ["INPUT.MAPPER", "FloodMapper", "DATALOADER.TRAIN_LOADER", "FloodTrainLoader"]
    opts += ["DATALOADER.TEST_LOADER", "FloodTestLoader", "TEST.EVALUATORS", "CountWater"]
    cfg = get_msnet_cfg(None, opts)
    cfg.merge_from_other_cfg(train_cfg)
    cfg.merge_from_list([*opts[:-1], ("CountWater",)])
    cfg.SOLVER.MAX_ITER = 1
    trainer = MSNetTrainer(cfg)
    assert next(iter(trainer.data_loader))[0]["water"] == 7
    # The loader gives one of the two batches of one image.
    results = train(cfg)
    assert results["floods"]["water"] == 7
    cfg.TEST.EVALUATORS = ("CountWater", "isbda")
    cfg.DATALOADER.TEST_LOADER = ""
    assert {"floods", "isbda_segm"} <= set(evaluate(cfg, f"{cfg.OUTPUT_DIR}/model_final.pth"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("INPUT.MAPPER", "ISBDAMapper", "did you mean ISBDADatasetMapper? There are: "),
        ("DATALOADER.TRAIN_LOADER", "pairs", "there are: ImageTrainLoader, JointTrainLoader, Trip"),
        ("DATALOADER.TEST_LOADER", "pairs", "there are: ImageTestLoader, VideoTestLoader"),
        ("TEST.EVALUATORS", ("nobody",), "there are: "),
    ],
)
def test_an_unknown_name_is_refused_with_those_that_there_are(key, value, message, train_cfg):
    train_cfg.merge_from_list([key, value])
    wanted = value if isinstance(value, str) else value[0]
    with pytest.raises(ConfigError) as caught:
        train(train_cfg)
    assert f"{key} is {wanted!r}; " in str(caught.value)
    assert message in str(caught.value)


def test_one_evaluator_on_the_command_line_needs_no_brackets():
    assert get_msnet_cfg(None, ["TEST.EVALUATORS", "isbda"]).TEST.EVALUATORS == ("isbda",)


BROKEN = {
    "a module that is not installed": (
        {"plugin": "import no_such_dependency"},
        "ModuleNotFoundError: No module named 'no_such_dependency'",
    ),
    "no Project": ({"plugin": "PROJECT = 3"}, "TypeError: broken.plugin:PROJECT is int"),
    "no such object": ({"plugin": ""}, "AttributeError: module 'broken.plugin' has no"),
    "a plugin that ends the process": ({"plugin": "raise SystemExit(3)"}, "SystemExit: 3"),
    "a component with a typing mistake": (
        {"brings": 'components=("broken.model",)', "model": "def forward(:"},
        "SyntaxError: invalid syntax",
    ),
    "a name that is registered already": (
        {
            "brings": 'components=("broken.model",)',
            "model": "from detectron2.modeling import META_ARCH_REGISTRY\n"
            "@META_ARCH_REGISTRY.register()\nclass MSNet: pass",
        },
        "AssertionError: An object named 'MSNet' was already registered",
    ),
    "config that fails": (
        {"brings": 'add_config="broken.config:add"', "config": "def add(cfg): cfg.NO.WHERE = 1"},
        "AttributeError: NO",
    ),
    "a key of others changed": (
        {
            "brings": 'add_config="broken.config:add"',
            "config": "def add(cfg): cfg.SOLVER.BASE_LR = 1.0",
        },
        "ValueError: its add_config changes SOLVER.BASE_LR, a key of others",
    ),
    "a section of others emptied": (
        {
            "brings": 'add_config="broken.config:add"',
            "config": "def add(cfg): cfg.MODEL.HRPN = type(cfg)()",
        },
        "ValueError: its add_config changes MODEL.HRPN.METRIC, a key of others",
    ),
    "a command that fails": (
        {"brings": 'commands={"flood": "broken.command"}', "command": "1 / 0"},
        "ZeroDivisionError: division by zero",
    ),
    "a command without its parts": (
        {"brings": 'commands={"flood": "broken.command"}', "command": "HELP = 'h'"},
        "AttributeError: module 'broken.command' has no attribute 'add_arguments'",
    ),
    "the name of a command of ours": (
        {"brings": 'commands={"train": "broken.command"}', "command": COMMAND},
        "ValueError: its command train is one of msnet_d2",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_project_is_left_out_and_doctor_says_why(
    kind, add_project, forget_registered, capsys, tiny_data
):
    modules, reason = BROKEN[kind]
    before = get_msnet_cfg()
    add_project("Broken", **modules)
    add_project("Floods", **{**FLOODS, "components": ""})
    assert main(["doctor"]) == 0
    (line,) = (x for x in capsys.readouterr().out.splitlines() if "project Broken" in x)
    assert f"left out: {reason}" in line
    # What else there is keeps working.
    cfg = get_msnet_cfg(None, ["MODEL.FLOODS.DEPTH", "5"])
    assert cfg.MODEL.pop("FLOODS") == {"DEPTH": 5}
    assert cfg == before
    assert main(["flood"]) == 0
    assert main(["stats", str(tiny_data)]) == 0
    assert capsys.readouterr().out.startswith("the word is water\n")


def test_of_two_projects_with_one_command_the_second_is_left_out(add_project, capsys):
    add_project("Floods", **{**FLOODS, "components": ""})
    add_project("Zeal", brings='commands={"flood": "zeal.command"}', command=COMMAND)
    assert main(["flood"]) == 0
    assert project("Zeal").error == "ValueError: its command flood is one of Floods"
    assert not project("Floods").error


def test_of_two_projects_with_one_key_the_second_is_left_out(add_project):
    add_project("Floods", **{**FLOODS, "components": ""})
    config = CONFIG.replace('"DEPTH": 3', '"HEIGHT": 3')
    add_project("Zeal", brings='add_config="zeal.config:add_config"', config=config)
    assert get_msnet_cfg().MODEL.FLOODS.DEPTH == 3
    assert project("Zeal").error.startswith("ValueError: its add_config changes MODEL.FLOODS.DEPTH")


def test_what_is_unknown_may_belong_to_a_project_that_is_broken(add_project, train_cfg, capsys):
    add_project("Broken", plugin="import no_such_dependency")
    why = "Broken (ModuleNotFoundError: No module named 'no_such_dependency')"
    with pytest.raises(ConfigError, match="DEPTH. .these projects could not be loaded: B"):
        get_msnet_cfg(None, ["MODEL.FLOODS.DEPTH", "5"])
    train_cfg.INPUT.MAPPER = "Water"
    with pytest.raises(ConfigError, match="these projects could not be loaded: Broken"):
        build_mapper(train_cfg, is_train=True)
    with pytest.raises(SystemExit):
        main(["flood"])
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "there is no command 'flood' here; these projects could not be loaded" in line
    assert why in line


def test_without_a_project_its_command_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: ())
    installed_projects.cache_clear()
    try:
        with pytest.raises(SystemExit) as caught:
            main(["flood", "--out", "x"])
    finally:
        installed_projects.cache_clear()
    assert caught.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "there is no command 'flood' here; if it comes with a project, install that" in line
    assert "pip install ./projects/NAME" in line


def test_a_config_may_have_one_of_the_package_as_its_base_by_name(tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text('_BASE_: "quick/msnet_lite0_FPN.yaml"\nSOLVER:\n  MAX_ITER: 7\n')
    cfg, base = get_msnet_cfg(config), get_msnet_cfg("quick/msnet_lite0_FPN.yaml")
    assert cfg.SOLVER.MAX_ITER == 7
    cfg.SOLVER.MAX_ITER = base.SOLVER.MAX_ITER
    assert cfg == base
    # A file beside it comes first.
    (tmp_path / "quick").mkdir()
    (tmp_path / "quick" / "msnet_lite0_FPN.yaml").write_text("SEED: 5\n")
    assert get_msnet_cfg(config).SEED == 5


def test_configs_come_with_a_project_and_two_of_one_name_are_told_apart(add_project, tmp_path):
    add_project("Floods", **{**FLOODS, "components": ""})
    configs = tmp_path / "site-packages" / "floods" / "configs"
    configs.mkdir()
    (configs / "flood.yaml").write_text("MODEL:\n  FLOODS:\n    DEPTH: 9\n")
    assert get_msnet_cfg("flood.yaml").MODEL.FLOODS.DEPTH == 9
    add_project("Zeal")
    configs = tmp_path / "site-packages" / "zeal" / "configs"
    configs.mkdir()
    (configs / "flood.yaml").write_text("SEED: 1\n")
    with pytest.raises(ConfigError, match="several projects have a config file 'flood.yaml'"):
        get_msnet_cfg("flood.yaml")


def test_no_project_of_this_repository_imports_another():
    root = Path(msnet_d2.__file__).resolve().parents[1] / "projects"
    packages = {
        path.parent.name: path.parents[1].name
        for path in root.glob("*/*/__init__.py")
        if path.parent.name != "tests"
    }
    assert {"polarmask", "synthetic_flights", "msnet_benchmark"} <= set(packages)
    crossing = [
        (str(file.relative_to(root)), name)
        for file in root.glob("*/**/*.py")
        if "tests" not in file.relative_to(root).parts
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        for name in imported_names(node)
        if packages.get(name.partition(".")[0], file.relative_to(root).parts[0])
        != file.relative_to(root).parts[0]
    ]
    assert crossing == []


def imported_names(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


@pytest.mark.parametrize(
    ("key", "value", "near"),
    [
        ("MODEL.META_ARCHITECTURE", "MSNett", "MSNet"),
        ("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbon", "build_resnet_fpn_backbone"),
        ("MODEL.PROPOSAL_GENERATOR.NAME", "HierarchicalRPM", "HierarchicalRPN"),
        ("MODEL.ROI_HEADS.NAME", "StandardROIHead", "StandardROIHeads"),
    ],
)
def test_a_part_of_the_model_that_nobody_registered_is_refused(key, value, near, tiny_cfg):
    tiny_cfg.merge_from_list([key, value])
    for build in (
        MSNetTrainer.build_model,
        lambda cfg: Predictor(cfg, allow_random_weights=True),
    ):
        with pytest.raises(ConfigError, match=f"{key} is '{value}'; did you mean {near}"):
            build(tiny_cfg)


def test_a_data_set_of_a_project_goes_by_its_name(add_project, forget_registered, tiny_data):
    register = f"""
from msnet_d2.data import register_isbda_instances
root = {str(tiny_data)!r}
register_isbda_instances("floods_val", root + "/annotations/instances_val.json", root + "/val")
"""
    add_project("Floods", brings='components=("floods.data",)', data=register)
    assert main(["stats", "floods_val"]) == 0
