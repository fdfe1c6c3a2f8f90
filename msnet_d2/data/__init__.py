"""Data sets of damaged parts and their buildings: reading, checking, describing, splitting.

Importing this package registers ``isbda_train`` and ``isbda_val``, and opens no file.
"""

from msnet_d2.data.isbda.catalog import (
    dataset_files,
    register_builtin_datasets,
    resolve_dataset,
    resolve_datasets,
)
from msnet_d2.data.isbda.json_dataset import (
    FRAME_PATTERN,
    ISBDA_CATEGORIES,
    load_isbda_json,
    register_isbda_instances,
)
from msnet_d2.data.isbda.validation import Issue, find_issues
from msnet_d2.data.loading.build import (
    MAPPER_REGISTRY,
    TEST_LOADER_REGISTRY,
    TRAIN_LOADER_REGISTRY,
)
from msnet_d2.data.loading.dataset_mapper import ISBDADatasetMapper
from msnet_d2.data.loading.samplers import VideoInferenceSampler
from msnet_d2.data.loading.triplets import TripletDataset, build_joint_loader, build_triplet_loader

__all__ = [
    "FRAME_PATTERN",
    "ISBDA_CATEGORIES",
    "MAPPER_REGISTRY",
    "TEST_LOADER_REGISTRY",
    "TRAIN_LOADER_REGISTRY",
    "ISBDADatasetMapper",
    "Issue",
    "TripletDataset",
    "VideoInferenceSampler",
    "build_joint_loader",
    "build_triplet_loader",
    "dataset_files",
    "find_issues",
    "load_isbda_json",
    "register_builtin_datasets",
    "register_isbda_instances",
    "resolve_dataset",
    "resolve_datasets",
]

register_builtin_datasets()
