"""Mistakes that training used to meet late, or blame on something else: one line, with the key."""

from __future__ import annotations

import json

import pytest
from detectron2.data.datasets import register_coco_instances

from msnet_d2.engine.trainer import MSNetTrainer
from msnet_d2.errors import ConfigError, DatasetError


def edit(folder, split, change):
    path = folder / "annotations" / f"instances_{split}.json"
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        change(annotation)
    path.write_text(json.dumps(content))


def test_one_size_with_the_sampling_of_a_range_names_the_key(train_cfg):
    train_cfg.INPUT.MIN_SIZE_TRAIN = (800,)
    train_cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = "range"
    with pytest.raises(ConfigError, match=r"INPUT.MIN_SIZE_TRAIN is \(800,\); .* 'range' takes"):
        MSNetTrainer(train_cfg)


def test_boxes_alone_for_a_model_with_masks_name_the_key(train_cfg, tiny_data):
    edit(tiny_data, "train", lambda annotation: annotation.update(segmentation=[]))
    with pytest.raises(DatasetError, match="3 of 3 annotations .* set MODEL.MASK_ON False"):
        MSNetTrainer(train_cfg)
    train_cfg.MODEL.MASK_ON = False
    MSNetTrainer(train_cfg)


def test_a_one_stage_detector_with_a_hierarchical_rpn_is_refused(train_cfg):
    train_cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    train_cfg.MODEL.RETINANET.NUM_CLASSES = 3
    train_cfg.MODEL.RETINANET.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    with pytest.raises(ConfigError, match="RetinaNet has no proposal generator; set it to RPN"):
        MSNetTrainer(train_cfg)


def test_a_loader_that_drops_the_parents_is_told_how_to_keep_them(train_cfg, tiny_data):
    edit(tiny_data, "train", lambda a: a.update(bbox=a["damage_bbox"], parent_bbox=a["house_bbox"]))
    json_file = tiny_data / "annotations" / "instances_train.json"
    register_coco_instances("mine", {}, str(json_file), str(tiny_data / "train"))
    train_cfg.DATASETS.TRAIN, train_cfg.DATASETS.TEST = ("mine",), ()
    with pytest.raises(DatasetError, match=r"extra_annotation_keys=\['parent_bbox'\]"):
        MSNetTrainer(train_cfg)


def test_samplers_that_need_keys_that_detectron2_lacks_are_refused_by_name(train_cfg):
    train_cfg.DATALOADER.SAMPLER_TRAIN = "WeightedTrainingSampler"
    with pytest.raises(ConfigError, match="there are: TrainingSampler, RepeatFactor"):
        MSNetTrainer(train_cfg)
