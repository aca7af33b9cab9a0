"""Other libraries: silences them in one place, and reports what to install if one is missing."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from data_prep.errors import InputError

_ENVIRONMENT = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
_NOISY = ("accelerate", "bm25s", "datasets", "faiss", "filelock", "torch", "transformers")


def silence_libraries(*, progress: bool) -> None:
    """Keeps library messages off the terminal; must be called before they are imported.

    Existing environment variables take precedence.

    Args:
        progress: Whether to keep this toolkit's own progress bars.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if not progress:
        os.environ["TQDM_DISABLE"] = "1"
        # It sets its own level at its first message.
        logging.getLogger("ir_datasets").addFilter(_is_error)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=rf"{name}(\.|$)")


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


@contextmanager
def requiring(package: str, extra: str) -> Iterator[None]:
    """Reports what to install if the block cannot import a package.

    Args:
        package: Its name on the package index.
        extra: The extra of dsi-toolkit that installs it.

    Raises:
        InputError: It is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"this requires the package {package} ({error})",
            hint=f"pip install 'dsi-toolkit[{extra}]'",
        ) from None
