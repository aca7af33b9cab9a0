"""Document vectors from a pooled encoder: batched by length, saved as they are computed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from data_prep.files import read_json, write_json
from data_prep.progress import track

if TYPE_CHECKING:
    from dsi.backbones.pooled_encoder import PooledEncoder

_TOKENS = 8192
_TEXTS = 64
"""Maximum tokens (including padding) and texts of a batch; a single text is always accepted."""
_KEEP = 32
"""Batches between two saves of the progress."""
_BAR = 1000


def vectors_of(
    encoder: PooledEncoder, texts: Sequence[Sequence[int]], scratch: Path | None = None
) -> npt.NDArray[np.float32]:
    """Encodes documents.

    Args:
        encoder: The encoder; temporarily in evaluation mode.
        texts: Token ids of each, with prompt and special tokens.
        scratch: A folder for finished work; called again with the same texts after an interruption,
            it resumes from there. None to keep nothing.

    Returns:
        float32 [texts, width].

    Raises:
        InputError: A vector is not finite.
    """
    import torch

    from dsi.backbones.inference import evaluating, padded

    batches = list(_batches([max(1, len(line)) for line in texts]))
    shape = (len(texts), encoder.width)
    matrix: npt.NDArray[np.float32]
    begun = 0
    if scratch is None:
        matrix = np.zeros(shape, np.float32)
    else:
        matrix, begun = _open_or_create(scratch, shape, _digest(encoder, texts))
    device = encoder.get_input_embeddings().weight.device
    remaining: Iterator[npt.NDArray[np.int64]] = iter(batches[begun:])
    if len(texts) >= _BAR and begun < len(batches):
        remaining = track(batches[begun:], "encoding documents")
    with evaluating(encoder):
        for completed, rows in enumerate(remaining, begun + 1):
            tokens, mask = padded([texts[row] or [0] for row in rows.tolist()])
            vectors = encoder.document_vectors(tokens.to(device), mask.to(device)).float()
            if not bool(torch.isfinite(vectors).all()):
                raise InputError(
                    "the encoder returns vectors that are not finite",
                    hint="Its weights are damaged; use another --model.encoder",
                )
            matrix[rows] = vectors.cpu().numpy()
            if scratch is not None and (completed % _KEEP == 0 or completed == len(batches)):
                _save_progress(scratch, matrix, completed)
    return np.array(matrix)


def _batches(lengths: Sequence[int]) -> Iterator[npt.NDArray[np.int64]]:
    """Yields the indices of texts of similar length, longest first."""
    order = np.argsort(np.negative(lengths), kind="stable").astype(np.int64)
    start = 0
    while start < len(order):
        count = min(_TEXTS, max(1, _TOKENS // lengths[order[start]]))
        yield order[start : start + count]
        start += count


def _digest(encoder: PooledEncoder, texts: Sequence[Sequence[int]]) -> str:
    """Returns a fingerprint of an encoder and texts, in hex."""
    digest = hashlib.blake2b(json.dumps(encoder.settings, sort_keys=True).encode(), digest_size=16)
    for name, weight in encoder.state_dict().items():
        digest.update(f"{name} {float(weight.double().sum())!r}".encode())
    for line in texts:
        digest.update(np.asarray([len(line), *line], np.int32).tobytes())
    return digest.hexdigest()


def _open_or_create(
    scratch: Path, shape: tuple[int, int], digest: str
) -> tuple[npt.NDArray[np.float32], int]:
    """Opens the existing array, or creates it; also returns the number of finished batches."""
    scratch.mkdir(parents=True, exist_ok=True)
    file, note = scratch / "vectors.npy", scratch / "vectors.json"
    about = {"shape": list(shape), "digest": digest}
    if note.is_file() and file.is_file():
        try:
            progress = read_json(note)
            if {**progress, "done": 0} == {**about, "done": 0}:
                return np.lib.format.open_memmap(file, mode="r+"), int(progress["done"])
        except (InputError, ValueError, TypeError, KeyError, json.JSONDecodeError):
            pass  # damaged by the interruption: start over
    note.unlink(missing_ok=True)
    room = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=shape)
    write_json(note, {**about, "done": 0})
    return room, 0


def _save_progress(scratch: Path, matrix: npt.NDArray[np.float32], completed: int) -> None:
    assert isinstance(matrix, np.memmap)
    matrix.flush()
    progress = read_json(scratch / "vectors.json")
    write_json(scratch / "vectors.json", {**progress, "done": completed})
