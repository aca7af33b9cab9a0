"""The process of the command `dsi`, also as `python -m dsi` and `torchrun -m dsi`."""

import gc
import sys

from dsi.cli import main


def run() -> None:
    """Runs the command line of this process and exits with its exit code."""
    code = main()
    # Imported here because `dsi --help` needs none of it.
    from dsi.distributed.processes import leave

    leave(code)
    gc.freeze()  # nothing is collected on the way out: the process ends
    sys.exit(code)


if __name__ == "__main__":
    run()
