"""The fixtures that all tests share."""

from helpers.fixtures import forget_datasets, tiny_cfg  # noqa: F401
