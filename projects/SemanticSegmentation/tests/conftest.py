"""The fixtures that all tests share."""

from helpers.fixtures import forget_datasets, tiny_cfg, tiny_data  # noqa: F401
