"""``python -m msnet_d2.cli``: the ``msnet`` command where its script is not on the PATH."""

import sys

from msnet_d2.cli import main

if __name__ == "__main__":
    sys.exit(main())
