"""Loads a pretrained encoder from a folder or hub id into the parts that an index stores.

`docids.sentence_encoder` loads it and knows its prompts. Here it is split into the network with its
pooling (`dsi.backbones.pooled_encoder`) and the tokenizer with the prompts
(`dsi.text_encoders.prompted_encoder`). An encoder that cannot be reproduced exactly is refused:
sample texts are encoded by both and must give the same vectors.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.errors import InputError
from data_prep.files import read_json
from docids.muvera import MuveraOptions
from dsi.text_encoders.prompted_encoder import WITHOUT_LIMIT, PromptedEncoder

if TYPE_CHECKING:
    from docids.sentence_encoder import SentenceEncoder
    from dsi.backbones.pooled_encoder import PooledEncoder

PREFIX = "muvera:"
"""Prefix of a `--model.encoder` whose token states are encoded with MUVERA instead of pooled."""
WHERE = "--model.encoder"
_SAMPLES = ["a", "Two texts, of unequal length", "who wrote THE first letter in 1907?"]
_TOLERANCE = 1e-4
_NOT_KEPT = (
    "_name_or_path", "transformers_version", "architectures", "dtype", "id2label", "label2id",
)  # fmt: skip
"""Keys of a configuration that describe its origin or belong to another task."""


@dataclass(frozen=True)
class LoadedEncoder:
    """The parts of a pretrained encoder.

    Attributes:
        encoder: The network, in evaluation mode.
        text: The tokenizer, with the prompts of queries and documents.
        similarity: The similarity the encoder was trained for: "cosine" or "dot".
    """

    encoder: PooledEncoder
    text: PromptedEncoder
    similarity: str


def load_encoder(name: str) -> LoadedEncoder:
    """Loads an encoder-only model or static embeddings.

    Args:
        name: Hub id or folder in the format of transformers, sentence-transformers or model2vec;
            after "muvera:", fixed-dimensional encodings of its token states take the place of its
            pooling.

    Raises:
        InputError: It cannot be loaded, requires running its own code, is an encoder-decoder, has a
            tokenizer that does not match or vectors that are not finite, or has an unsupported
            part.
    """
    from docids.sentence_encoder import SentenceEncoder, refuse_no_name

    refuse_no_name(name, WHERE)
    if name.startswith(PREFIX):
        return _with_encodings(load_encoder(name.removeprefix(PREFIX)))
    _refuse_encoder_decoder(name)
    loaded = SentenceEncoder(name, where=WHERE)
    encoder = _network(loaded)
    text = _tokenizer(loaded, encoder)
    _compare(loaded, encoder, text)
    return LoadedEncoder(encoder, text, loaded.similarity)


def _with_encodings(loaded: LoadedEncoder) -> LoadedEncoder:
    """Replaces pooling, and what follows it, by fixed-dimensional encodings of token states.

    The unit is the mean norm of sample texts: products of encodings keep their norms.
    """
    from dsi.backbones.document_vectors import vectors_of
    from dsi.backbones.pooled_encoder import PooledEncoder

    plain = loaded.encoder
    size = {**asdict(MuveraOptions()), "seed": 0}
    settings = {**plain.settings, "pooling": ["mean"], "layers": [], "muvera": size, "unit": 1.0}
    encoder = PooledEncoder(settings)
    encoder.network.load_state_dict(plain.network.state_dict())
    encoder.eval()
    vectors = vectors_of(encoder, loaded.text.encode_documents(_SAMPLES, loaded.text.longest))
    unit = float(np.linalg.norm(vectors, axis=1).mean()) or 1.0
    encoder.settings["unit"] = encoder.unit = unit
    return LoadedEncoder(encoder, loaded.text, "dot")


def _refuse_encoder_decoder(name: str) -> None:
    """Refuses checkpoints of T5, BART and the like before loading anything."""
    file = Path(name) / "config.json"
    if not file.is_file():
        return
    config = read_json(file)
    kind = config.get("model_type") if isinstance(config, dict) else None
    if isinstance(config, dict) and (config.get("is_encoder_decoder") or kind in ("t5", "mt5")):
        raise _error(
            f"{name!r} is a {kind}, an encoder-decoder",
            f"Start from it with --model.pretrained {name}",
        )


def _network(loaded: SentenceEncoder) -> PooledEncoder:
    """Builds the network and copies the weights into it."""
    from dsi.backbones.pooled_encoder import PooledEncoder

    settings = _settings(loaded)
    states: dict[str, Any] = {}
    for number, (source, target) in enumerate(_parts(loaded)):
        values = source.state_dict()
        if number == 0 and settings["config"] is None:
            weight = values["weight"]
            values = {"weight": _with_empty_row(weight)}
        states |= {f"{target}.{key}": value for key, value in values.items()}
    encoder = PooledEncoder(settings)
    weights = encoder.state_dict()
    encoder.load_state_dict({key: states[key] for key in weights}, strict=True)
    return encoder.eval()


def _with_empty_row(weight: Any) -> Any:
    import torch

    return torch.cat([weight, weight.new_zeros((1, weight.shape[1]))])


def _parts(loaded: SentenceEncoder) -> list[tuple[Any, str]]:
    """Returns the modules with weights and their names in a `PooledEncoder`."""
    first, *rest = list(loaded.module)
    network = first.embedding if _is_static(first) else loaded.module.transformers_model
    parts: list[tuple[Any, str]] = [(network, "network")]
    rest = [module for module in rest if type(module).__name__ != "Pooling"]
    for number, module in enumerate(rest):
        if type(module).__name__ == "Dense":
            parts.append((module.linear, f"projection.{number}.linear"))
            if hasattr(module, "residual"):
                parts.append((module.residual, f"projection.{number}.residual"))
    return parts


def _is_static(module: Any) -> bool:
    return type(module).__name__ == "StaticEmbedding"


def _settings(loaded: SentenceEncoder) -> dict[str, Any]:
    """Returns the settings of a `PooledEncoder` equivalent to the modules."""
    first, *rest = list(loaded.module)
    settings: dict[str, Any] = {"config": None, "pooling": ["mean"], "longest": WITHOUT_LIMIT}
    if _is_static(first):
        settings |= {"rows": first.num_embeddings + 1, "width": first.embedding_dim}
    else:
        settings |= _of_transformer(loaded, rest.pop(0) if rest else None)
    layers = [_layer(module) for module in rest]
    if loaded.similarity == "cosine" and (not layers or layers[-1]["kind"] != "normalize"):
        layers.append({"kind": "normalize"})
    unit = 1.0
    if loaded.similarity == "dot":
        lengths = np.linalg.norm(loaded.encode_documents(_SAMPLES), axis=1)
        unit = float(lengths.mean()) or 1.0
    return {**settings, "layers": layers, "unit": unit}


def _of_transformer(loaded: SentenceEncoder, pooling: Any) -> dict[str, Any]:
    from dsi.backbones.pooled_encoder import KINDS

    network: Any = getattr(loaded.module, "transformers_model", None)
    kind = getattr(getattr(network, "config", None), "model_type", type(loaded.module[0]).__name__)
    if kind not in KINDS:
        raise _error(
            f"{loaded.name!r} is a {kind}, not an encoder-only model that an index supports",
            "Use a BERT, MiniLM, E5, BGE, GTE, ModernBERT or XLM-RoBERTa, or static embeddings; "
            "encoder-decoders are for --model.pretrained",
        )
    if type(pooling).__name__ != "Pooling":
        raise _unknown(loaded, pooling)
    if not pooling.include_prompt and (loaded.query_prompt or loaded.document_prompt):
        raise _error(
            f"{loaded.name!r} excludes its prompts from pooling, which is not supported",
            "Choose an encoder that pools prompt and text together",
        )
    modes = pooling.pooling_mode
    # As it will be read back from a file.
    config = json.loads(json.dumps(network.config.to_dict(), default=str))
    for key in _NOT_KEPT:
        config.pop(key, None)
    positions = getattr(network.config, "max_position_embeddings", None)
    longest = loaded.module.max_seq_length or positions or WITHOUT_LIMIT
    return {
        "config": config,
        "pooling": [modes] if isinstance(modes, str) else list(modes),
        "longest": int(min(longest, WITHOUT_LIMIT)),
    }


def _layer(module: Any) -> dict[str, Any]:
    from dsi.backbones.pooled_encoder import ACTIVATIONS

    kind = type(module).__name__
    if kind == "Normalize":
        return {"kind": "normalize"}
    names = {activation.__name__: name for name, activation in ACTIVATIONS.items()}
    if kind != "Dense" or type(module.activation_function).__name__ not in names:
        raise _error(
            f"the encoder has a {kind} module after pooling, which is not supported",
            "Choose one with Dense and Normalize modules only",
        )
    return {
        "kind": "dense",
        "inputs": module.in_features,
        "outputs": module.out_features,
        "bias": module.linear.bias is not None,
        "activation": names[type(module.activation_function).__name__],
        "residual": bool(getattr(module, "use_residual", False)),
    }


def _tokenizer(loaded: SentenceEncoder, encoder: PooledEncoder) -> PromptedEncoder:
    prompts = (loaded.query_prompt, loaded.document_prompt)
    if _is_static(loaded.module[0]):
        return PromptedEncoder.of_static(
            loaded.tokenizer, *prompts, empty=encoder.settings["rows"] - 1
        )
    from dsi.text_encoders.stored_tokenizer import check_storable

    check_storable(loaded.tokenizer, loaded.name)
    return PromptedEncoder(loaded.tokenizer, *prompts, longest=encoder.settings["longest"])


def _compare(loaded: SentenceEncoder, encoder: PooledEncoder, text: PromptedEncoder) -> None:
    """Refuses an encoder whose parts, reassembled here, compute something else."""
    from dsi.backbones.document_vectors import vectors_of

    for encode, reference_encode in (
        (text.encode, loaded.encode_queries),
        (text.encode_documents, loaded.encode_documents),
    ):
        vectors = vectors_of(encoder, encode(_SAMPLES, 512))
        reference = reference_encode(_SAMPLES)
        if vectors.shape != reference.shape or not np.allclose(vectors, reference, atol=_TOLERANCE):
            raise _error(
                f"the vectors of {loaded.name!r} differ from those of sentence-transformers",
                "Choose another encoder, and report this one",
            )


def _unknown(loaded: SentenceEncoder, module: Any) -> InputError:
    return _error(
        f"{loaded.name!r} has a {type(module).__name__} where pooling is expected",
        "Choose an encoder whose modules are Transformer, Pooling, Dense and Normalize",
    )


def _error(what: str, hint: str) -> InputError:
    return InputError(what, where=WHERE, hint=hint)
