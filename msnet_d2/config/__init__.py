"""The configuration keys of this project, its config files, and how they are read."""

from msnet_d2.config.defaults import add_msnet_config
from msnet_d2.config.load import get_msnet_cfg, load_config, write_config
from msnet_d2.config.paths import config_path, find_config

__all__ = [
    "add_msnet_config",
    "config_path",
    "find_config",
    "get_msnet_cfg",
    "load_config",
    "write_config",
]
