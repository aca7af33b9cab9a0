"""DeepSpeed: reads its configuration and initializes it on GPUs or CPUs."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from data_prep.errors import InputError


def read_zero_config(file: Path) -> dict[str, Any]:
    """Reads a DeepSpeed configuration and refuses settings that training cannot honor.

    Raises:
        InputError: The file is not JSON, has no ZeRO stage from 1 to 3, or sets values that `dsi
            train` sets.
    """
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read it ({error.strerror})", where=file) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid JSON ({error})", where=file) from None
    zero: Any = config.get("zero_optimization") if isinstance(config, dict) else None
    stage = zero.get("stage") if isinstance(zero, dict) else None
    if stage not in (1, 2, 3):
        raise InputError(f"zero_optimization.stage is {stage!r}", where=file, hint="Give 1, 2 or 3")
    reserved = {
        "optimizer": "--optimizer.name",
        "scheduler": "--optimizer.schedule",
        "fp16": "--loop.precision",
        "train_batch_size": "--loop.batch",
        "train_micro_batch_size_per_gpu": "--loop.batch",
        "gradient_accumulation_steps": "--loop.accumulation",
        "gradient_clipping": "--optimizer.clip",
    }
    for key, option in reserved.items():
        if config.get(key, "auto") != "auto":
            raise InputError(
                f"{key} is set by the option {option}", where=file, hint='Omit it, or give "auto"'
            )
    for part in ("offload_optimizer", "offload_param"):
        device = zero.get(part, {}).get("device", "none")
        if device not in ("none", "cpu"):
            raise InputError(
                f"zero_optimization.{part}.device {device!r} is not supported",
                where=file,
                hint="Give cpu or none",
            )
    return config


def start_deepspeed() -> None:
    """Initializes DeepSpeed on GPUs, or on CPUs if there is no GPU.

    Raises:
        InputError: DeepSpeed is not installed.
    """
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        with quietly():
            import deepspeed  # noqa: F401
    except ImportError:
        raise InputError(
            "--deepspeed needs DeepSpeed, which is not installed",
            hint="pip install 'dsi-toolkit[deepspeed]'",
        ) from None
    if not torch.cuda.is_available():
        _build_collectives()
    if not torch.distributed.is_initialized():
        # DeepSpeed needs a process group and a rank even for a single process.
        os.environ.setdefault("LOCAL_RANK", "0")
        torch.distributed.init_process_group(
            "nccl" if torch.cuda.is_available() else "gloo",
            store=torch.distributed.HashStore(),
            rank=0,
            world_size=1,
        )


def _build_collectives() -> None:
    """Compiles DeepSpeed's collectives for CPUs, unless they are compiled already.

    torch puts a lock file into its build folder, and waits for that file to disappear. A killed
    process leaves it there, and every later process would wait forever. The toolkit therefore uses
    its own folder, guarded by a lock that is released when its process ends.
    """
    from deepspeed.comm.torch import build_shm_op
    from filelock import FileLock
    from torch.utils.cpp_extension import get_default_build_root

    if "TORCH_EXTENSIONS_DIR" in os.environ:  # chosen by the user, and possibly shared
        return
    version = f"python{sys.version_info.major}.{sys.version_info.minor}-torch{torch.__version__}"
    folder = Path(get_default_build_root()) / "dsi-toolkit" / version
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TORCH_EXTENSIONS_DIR"] = str(folder)
    with FileLock(folder / "compiling"), quietly():
        for stale in folder.glob("*/lock"):
            stale.unlink()
        build_shm_op()


@contextmanager
def quietly() -> Iterator[None]:
    """Keeps DeepSpeed's log messages off standard output, and silences warnings of its imports."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        yield
