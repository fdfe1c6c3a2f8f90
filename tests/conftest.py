"""The fixtures of :mod:`helpers`."""

from helpers.fixtures import forget_datasets, save_model, tiny_cfg, tiny_data, train_cfg  # noqa: F401
from helpers.projects import add_project  # noqa: F401
