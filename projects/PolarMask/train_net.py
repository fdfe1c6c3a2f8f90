"""Train or evaluate PolarMask: the command line of ``msnet_d2.train_net``, with this project."""

import sys

# At module level: each process of several imports this file anew, and needs the project too.
import polarmask  # noqa: F401
from detectron2.engine import default_argument_parser

from msnet_d2.errors import MSNetError
from msnet_d2.train_net import run

if __name__ == "__main__":
    try:
        run(default_argument_parser().parse_args())
    except MSNetError as error:
        sys.exit(f"error: {error}")
