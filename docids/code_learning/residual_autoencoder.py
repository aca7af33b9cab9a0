"""A residual-quantized autoencoder: codes are learned with the network that reads the vectors.

    z = encoder(x)        r_1 = z        c_t = nearest codeword to r_t        r_t+1 = r_t - e_t[c_t]
    loss = ||x - decoder(sum of e_t[c_t])||^2 + sum over t of ||sg(r_t) - e_t||^2
           + commitment * ||r_t - sg(e_t)||^2

Encoder and decoder have two hidden layers of rectified linear units; the gradient of the decoder's
input is passed to z unchanged (straight-through; sg stops gradients). Codebooks start from k-means
over the residuals of the untrained encoder. A code that no document of the last `RESTART_EVERY`
steps was nearest to restarts at the residual of a document.

Lee et al., RQ-VAE, CVPR 2022; Rajput et al., TIGER, NeurIPS 2023, section 3.1.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from data_prep.checks import Options
from data_prep.errors import InputError
from data_prep.marks import Advanced, Count, NotNegative, Positive
from data_prep.progress import track
from docids.kinds.clustering import kmeans, nearest, one_thread

if TYPE_CHECKING:
    import torch

RESTART_EVERY = 50
"""Steps after which unused codes restart."""
_SETTLING = 0.8
"""Fraction of the training after which no code restarts."""
_LAYERS = 3
_START_ITERATIONS = 25
_START_POINTS_PER_CODE = 64


@dataclass(frozen=True)
class AutoencoderOptions(Options, group="rqvae"):
    """Size and training of the autoencoder."""

    width: Advanced[Count] = 256
    """Units of the encoder's first hidden layer; the second has half as many (TIGER: 512)"""
    latent: Advanced[Count] = 32
    """Dimensions of the quantized vector and of the codewords (TIGER: 32)"""
    steps: Advanced[Count] = 2000
    """Training steps"""
    batch: Advanced[Count] = 256
    """Documents per step (TIGER: 1024)"""
    lr: Advanced[Positive] = 1e-3
    """Learning rate (AdamW)"""
    commitment: Advanced[NotNegative] = 0.25
    """Weight of the commitment loss (TIGER: 0.25)"""


def train(
    vectors: npt.NDArray[np.float32],
    levels: int,
    size: int,
    options: AutoencoderOptions,
    seed: int,
) -> dict[str, np.ndarray]:
    """Trains the autoencoder, on the CPU.

    Args:
        vectors: One for each document; float32 [documents, dimensions].
        levels: Number of codebooks.
        size: Codes in a codebook.
        options: Size and training.
        seed: The same vectors, options and seed give the same network.

    Returns:
        What `encode` needs: "scale", float32 [1]; "weight0", "bias0", ... of the encoder's layers,
        float32 [out, in] and [out]; "codebook", float32 [levels, size, latent].

    Raises:
        InputError: The loss is not a finite number.
    """
    import torch

    rng = np.random.default_rng([seed, 18])
    dimensions = vectors.shape[1]
    squares = float(np.square(vectors).mean()) if vectors.size else 0.0
    scale = np.float32(squares**-0.5 if squares > 0 else 1.0)
    points = torch.from_numpy(np.ascontiguousarray(vectors)) * float(scale)
    sizes = [dimensions, options.width, max(1, options.width // 2), options.latent]
    encoder, decoder = _layers(sizes, rng), _layers(sizes[::-1], rng)
    books = torch.zeros((levels, size, options.latent))
    if len(points):
        with torch.no_grad():
            books = torch.from_numpy(_start(_forward(points, encoder), levels, size, rng))
    books.requires_grad_()
    trained = [books, *(weight for layer in (*encoder, *decoder) for weight in layer)]
    optimizer = torch.optim.AdamW(trained, lr=options.lr, weight_decay=0.0)
    used = torch.zeros((levels, size), dtype=torch.bool)
    steps = range(options.steps if len(points) else 0)
    for step in track(steps, "codes learned"):
        read = points[torch.from_numpy(rng.integers(len(points), size=options.batch))]
        latent = _forward(read, encoder)
        quantized, codes, quantization = _quantize(latent, books, options.commitment)
        passed = latent + (quantized - latent).detach()
        reconstruction = (read - _forward(passed, decoder)).square().sum(dim=1).mean()
        loss = reconstruction + quantization
        if not bool(torch.isfinite(loss)):
            raise InputError(
                f"the loss is {float(loss)} after {step} steps",
                where=f"--rqvae.lr {options.lr:g}",
                hint="Use a lower learning rate",
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for level in range(levels):
            used[level, codes[:, level]] = True
        if (step + 1) % RESTART_EVERY == 0:
            if step < _SETTLING * options.steps:
                _restart(books, used, latent.detach(), codes, rng)
            used[:] = False
    arrays = {"scale": np.array([scale], np.float32), "codebook": books.detach().numpy()}
    for number, (weight, bias) in enumerate(encoder):
        arrays[f"weight{number}"] = weight.detach().numpy()
        arrays[f"bias{number}"] = bias.detach().numpy()
    return arrays


def encode(
    arrays: Mapping[str, np.ndarray], vectors: npt.NDArray[np.float32]
) -> npt.NDArray[np.int64]:
    """Returns the codes of vectors; int64 [vectors, levels].

    Args:
        arrays: What `train` returned.
        vectors: float32 [vectors, dimensions].

    Raises:
        InputError: The arrays are incomplete, or the vectors do not match their dimensions.
    """
    try:
        books, scale = arrays["codebook"], arrays["scale"]
        layers = [(arrays[f"weight{place}"], arrays[f"bias{place}"]) for place in range(_LAYERS)]
    except KeyError as error:
        raise InputError(
            f"the stored identifiers have no encoder ({error.args[0]!r} is missing)",
            hint="Assign them again",
        ) from None
    if len(vectors) and vectors.shape[1] != layers[0][0].shape[1]:
        raise InputError(
            f"the document vectors have {vectors.shape[1]} dimensions, but the encoder reads "
            f"{layers[0][0].shape[1]}",
            hint="Use the embedding model that the identifiers were assigned with",
        )
    codes = np.zeros((len(vectors), len(books)), np.int64)
    if not len(vectors):
        return codes
    states = vectors * scale
    for place, (weight, bias) in enumerate(layers):
        states = states @ weight.T + bias
        if place + 1 < len(layers):
            states = np.maximum(states, 0)
    for level, book in enumerate(books):
        codes[:, level] = nearest(states, book)
        states = states - book[codes[:, level]]
    return codes


def _layers(sizes: list[int], rng: np.random.Generator) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Returns the weight and bias of each layer (He et al., 2015)."""
    import torch

    layers = []
    for inner, outer in itertools.pairwise(sizes):
        weight = ((2 / inner) ** 0.5 * rng.standard_normal((outer, inner))).astype(np.float32)
        layer = (torch.from_numpy(weight), torch.zeros(outer))
        layers.append((layer[0].requires_grad_(), layer[1].requires_grad_()))
    return layers


def _forward(states: torch.Tensor, layers: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Returns the output of a feed-forward network; the last layer is linear."""
    for place, (weight, bias) in enumerate(layers):
        states = states @ weight.T + bias
        if place + 1 < len(layers):
            states = states.relu()
    return states


def _quantize(
    latent: torch.Tensor, books: torch.Tensor, commitment: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns the sum of codewords, [batch, latent]; codes, [batch, levels]; the loss of both."""
    import torch

    residual, total = latent, torch.zeros_like(latent)
    loss = latent.new_zeros(())
    codes = []
    for book in books:
        with torch.no_grad():
            chosen = (book.square().sum(dim=1) - 2 * residual @ book.T).argmin(dim=1)
        word = book[chosen]
        loss = loss + (residual.detach() - word).square().sum(dim=1).mean()
        loss = loss + commitment * (residual - word.detach()).square().sum(dim=1).mean()
        codes.append(chosen)
        total = total + word
        residual = residual - word.detach()
    return total, torch.stack(codes, dim=1), loss


def _start(
    latent: torch.Tensor, levels: int, size: int, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Returns codebooks from k-means, level by level; float32 [levels, size, latent]."""
    residual = latent.numpy()
    most = size * _START_POINTS_PER_CODE
    if len(residual) > most:
        residual = residual[np.sort(rng.choice(len(residual), most, replace=False))]
    residual = np.concatenate([residual] * -(-size // len(residual)))
    books = np.empty((levels, size, residual.shape[1]), np.float32)
    with one_thread():
        for level in range(levels):
            kmeans_seed = int(rng.integers(2**31))
            books[level] = kmeans(residual, size, _START_ITERATIONS, kmeans_seed)
            residual = residual - books[level][nearest(residual, books[level])]
    return books


def _restart(
    books: torch.Tensor,
    used: torch.Tensor,
    latent: torch.Tensor,
    codes: torch.Tensor,
    rng: np.random.Generator,
) -> None:
    """Moves unused codewords to residuals of documents of the batch, in place."""
    import torch

    residual = latent
    with torch.no_grad():
        for level in range(len(books)):
            dead = (~used[level]).nonzero()[:, 0]
            sampled = torch.from_numpy(rng.integers(len(residual), size=len(dead)))
            following = residual - books[level][codes[:, level]]
            books[level, dead] = residual[sampled]
            residual = following
