"""DeepSpeed: its configuration as it may be given, and making it ready on GPUs or CPUs."""

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
    """Reads a DeepSpeed configuration and refuses what training cannot honour.

    Raises:
        InputError: It is no JSON, names no ZeRO stage from 1 to 3, or sets what `dsi train` sets.
    """
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read it ({error.strerror})", where=file) from None
    except ValueError as error:
        raise InputError(f"not valid JSON ({error})", where=file) from None
    zero: Any = config.get("zero_optimization") if isinstance(config, dict) else None
    stage = zero.get("stage") if isinstance(zero, dict) else None
    if stage not in (1, 2, 3):
        raise InputError(f"zero_optimization.stage is {stage!r}", where=file, hint="Give 1, 2 or 3")
    ours = {
        "optimizer": "--optimizer.name",
        "scheduler": "--optimizer.schedule",
        "fp16": "--loop.precision",
        "train_batch_size": "--loop.batch",
        "train_micro_batch_size_per_gpu": "--loop.batch",
        "gradient_accumulation_steps": "--loop.accumulation",
        "gradient_clipping": "--optimizer.clip",
    }
    for key, option in ours.items():
        if config.get(key, "auto") != "auto":
            raise InputError(
                f"{key} is decided by {option}", where=file, hint='Leave it out, or give "auto"'
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
    """Makes DeepSpeed ready, on GPUs or, without any, on CPUs.

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
        # A process alone: DeepSpeed wants a group and a rank all the same.
        os.environ.setdefault("LOCAL_RANK", "0")
        torch.distributed.init_process_group(
            "nccl" if torch.cuda.is_available() else "gloo",
            store=torch.distributed.HashStore(),
            rank=0,
            world_size=1,
        )


def _build_collectives() -> None:
    """Compiles what DeepSpeed sums gradients with on CPUs, unless that was done before.

    torch marks a folder that it compiles in by a file, and waits for that file to go. A process
    that is killed leaves it there, and every later one would wait for ever. So the folder is the
    toolkit's own, and whoever compiles in it holds a lock that ends with its process.
    """
    from deepspeed.comm.torch import build_shm_op
    from filelock import FileLock
    from torch.utils.cpp_extension import get_default_build_root

    if "TORCH_EXTENSIONS_DIR" in os.environ:  # chosen by the user, who may share it with others
        return
    version = f"python{sys.version_info.major}.{sys.version_info.minor}-torch{torch.__version__}"
    folder = Path(get_default_build_root()) / "dsi-toolkit" / version
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TORCH_EXTENSIONS_DIR"] = str(folder)
    with FileLock(folder / "compiling"), quietly():
        for left in folder.glob("*/lock"):
            left.unlink()
        build_shm_op()


@contextmanager
def quietly() -> Iterator[None]:
    """Keeps DeepSpeed's remarks on itself off standard output, and its imports' warnings away."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        yield
