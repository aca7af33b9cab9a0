"""The process of the command `dsi`, also as `python -m dsi` and `torchrun -m dsi`."""

import gc
import os
import sys

from dsi.cli import main


def run() -> None:
    """Runs the command line of this process and exits with its exit code."""
    if sys.getfilesystemencoding() == "ascii" and not all(map(str.isascii, sys.argv)):
        # LANG=C with PYTHONUTF8=0: Python can tell neither words nor file names that are not ASCII.
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    code = main()
    # Imported here because `dsi --help` needs none of it.
    from dsi.distributed.processes import leave

    leave(code)
    gc.freeze()  # nothing is collected on the way out: the process ends
    sys.exit(code)


if __name__ == "__main__":
    run()
