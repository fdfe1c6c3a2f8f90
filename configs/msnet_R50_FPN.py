"""msnet_R50_FPN.yaml as a LazyConfig, for Detectron2's ``lazyconfig_train_net.py`` and for code.

It changes Detectron2's own Mask R-CNN config. Parameters have the names and shapes of the YAML's.
"""

import copy

import detectron2.data.transforms as T
from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import MultiStepParamScheduler

from msnet_d2.data import ISBDADatasetMapper
from msnet_d2.evaluation import ISBDAEvaluator
from msnet_d2.modeling import HierarchicalRPN, MSNet, OverlapMatcher

EPOCH = 103  # iterations: about 824 frames by 8

model = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
model._target_ = MSNet
model.roi_heads.num_classes = 3  # Slight, Severe, Debris
parent_rpn = copy.deepcopy(model.proposal_generator)
model.proposal_generator._target_ = HierarchicalRPN
model.proposal_generator.anchor_matcher._target_ = OverlapMatcher
model.proposal_generator.parent_rpn = parent_rpn
model.proposal_generator.metric = "ioa"
model.proposal_generator.threshold = 0.1

dataloader = model_zoo.get_config("common/data/coco.py").dataloader
dataloader.train.dataset.names = "isbda_train"
dataloader.train.mapper._target_ = ISBDADatasetMapper
dataloader.train.mapper.augmentations[0] = L(T.ResizeShortestEdge)(
    short_edge_length=(600, 1200), sample_style="range", max_size=1333
)
dataloader.train.total_batch_size = 8
dataloader.test.dataset.names = "isbda_val"
dataloader.test.mapper._target_ = ISBDADatasetMapper
dataloader.evaluator = L(ISBDAEvaluator)(dataset_name="${..test.dataset.names}")

optimizer = model_zoo.get_config("common/optim.py").SGD
optimizer.lr = 0.003

lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(MultiStepParamScheduler)(values=[1.0, 1 / 3], milestones=[10 * EPOCH, 100 * EPOCH]),
    warmup_length=100 / (100 * EPOCH),
    warmup_factor=0.001,
)

train = model_zoo.get_config("common/train.py").train
train.init_checkpoint = (
    "detectron2://COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x/137849600/model_final_f10217.pkl"
)
train.max_iter = 100 * EPOCH
train.eval_period = 10 * EPOCH
train.checkpointer.period = 10 * EPOCH
