"""The fixtures of :mod:`helpers.fixtures`."""

from helpers.fixtures import forget_datasets, save_model, tiny_cfg, tiny_data, train_cfg  # noqa: F401
