"""Settings that every test shares."""

import os
import sys
from pathlib import Path

from hypothesis import settings

from data_prep import errors

# No test may reach a hub: files that are not on this machine are missing.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# With `pytest -n N` each worker gets its share of the cores, and so do the commands that its tests
# start: two processes of two threads on two cores are slower than two of one.
workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if workers > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

# No test fails because the machine is busy, and a change is tested with the same examples
# everywhere. `--hypothesis-profile explore` draws new ones.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile("repeatable")

# Tests kill processes, never the machine: what was written is there without being flushed.
os.fsync = lambda descriptor: None

# Helpers of several packages have their own folder; oracles are next to the tests that use them.
# Benchmarks are scripts, not a package.
SHARED = ("docids", "dsi/backbones", "dsi/objectives", "dsi/search", "dsi/training", "dsi/updating")
for folder in ("helpers", *SHARED, "../benchmarks"):
    sys.path.append(str((Path(__file__).parent / folder).resolve()))

# Tests check messages as printed by the command line; `tests/dsi/test_python_surface.py` checks
# those of the Python API.
errors.ON_COMMAND_LINE.set(True)
