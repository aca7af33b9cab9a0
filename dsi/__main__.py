"""`python -m dsi` and `torchrun -m dsi`: the same as the command `dsi`."""

import sys

from dsi.cli import main

if __name__ == "__main__":
    sys.exit(main())
