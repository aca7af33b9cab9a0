"""NCI's prefix-aware weight-adaptive output layer (Wang et al. 2022, section 3.3.3, and its code).

A code's meaning depends on the codes before it. So the output layer's weights are adapted to the
prefix at each position. For a position with decoder state z, after codes whose embeddings are e:

    h      = last state of a small transformer decoder over e, with a causal mask, whose memory is
             one learned vector
    logits = z W + z Delta,   Delta[:, v] = A_v h

with W the plain output layer and A_v a square matrix for each code v, without a bias. A starts at
0, so that the model starts as it is without the adaptor.

h depends on the prefix alone and not on the query. A model keeps its transformers class except for
`forward`; it has no key-value cache, since the adaptor reads all codes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from transformers import MT5ForConditionalGeneration, T5ForConditionalGeneration

from data_prep.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LAYERS = "dsi_pawa_layers"
"""Key in config.json: layers of the adaptor's decoder; absent without an adaptor."""


class PrefixAdaptor(nn.Module):
    """The adaptor of the output layer to prefixes.

    Args:
        width: Width of embeddings and decoder states.
        inner: Inner width of its feed-forward layers.
        heads: Number of attention heads; must divide the width.
        layers: Layers of its decoder.
        alphabet: Number of codes of the output layer.
        dropout: Dropout rate of its hidden states in training.
    """

    def __init__(
        self, width: int, inner: int, heads: int, layers: int, alphabet: int, dropout: float
    ) -> None:
        super().__init__()
        layer = nn.TransformerDecoderLayer(width, heads, inner, dropout, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, layers)
        self.memory = nn.Parameter(torch.randn(1, 1, width))
        self.weight = nn.Parameter(torch.zeros(alphabet, width, width))

    def forward(self, states: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """Returns the term to add to the logits; [examples, positions, alphabet].

        Args:
            states: States of the decoder, z; [examples, positions, width].
            embeddings: Embeddings of the decoder input at each position; same shape.
        """
        return self.adapted(states, self.prefixes(embeddings))

    def prefixes(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Returns h of every position; [lines, positions, width] in and out."""
        length = embeddings.shape[1]
        later = torch.ones(length, length, dtype=torch.bool, device=embeddings.device).triu(1)
        memory = self.memory.to(embeddings.dtype).expand(len(embeddings), -1, -1)
        return self.decoder(embeddings, memory, tgt_mask=later)

    def adapted(self, states: torch.Tensor, prefixes: torch.Tensor) -> torch.Tensor:
        """Returns z Delta; two inputs [..., width], output [..., alphabet]."""
        alphabet, width, _ = self.weight.shape
        if alphabet > width:
            pairs = (states.unsqueeze(-1) * prefixes.unsqueeze(-2)).flatten(-2)
            return functional.linear(pairs, self.weight.flatten(1))
        delta = functional.linear(prefixes, self.weight.view(-1, width))
        delta = delta.view(*prefixes.shape[:-1], alphabet, width)
        return torch.matmul(delta, states.unsqueeze(-1)).squeeze(-1)

    def lengthen(self, alphabet: int) -> None:
        """Adds more codes, on which prefixes have no effect yet."""
        more = alphabet - len(self.weight)
        if more > 0:
            old = self.weight.detach()
            self.weight = nn.Parameter(torch.cat([old, old.new_zeros(more, *old.shape[1:])]))


class _Pawa:
    """A T5 whose logits include the adaptor `pawa`."""

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        **options: Any,
    ) -> Any:
        """As in T5; `decoder_input_ids` are all codes so far, and labels are not supported."""
        if options.get("labels") is not None or options.get("past_key_values") is not None:
            raise ValueError("a model with an adaptor takes whole identifiers and no labels")
        return_states = options.pop("output_hidden_states", False)
        options["use_cache"] = False
        model: Any = super()
        outputs = model.forward(
            input_ids,
            attention_mask,
            decoder_input_ids=decoder_input_ids,
            output_hidden_states=True,
            **options,
        )
        network: Any = self
        embeddings = network.get_decoder().get_input_embeddings()(decoder_input_ids)
        added = network.pawa(outputs.decoder_hidden_states[-1], embeddings)
        outputs["logits"] = outputs.logits + added
        if not return_states:
            outputs["decoder_hidden_states"] = outputs["encoder_hidden_states"] = None
        return outputs


class PawaT5(_Pawa, T5ForConditionalGeneration):
    """T5 with an adaptor."""


class PawaMT5(_Pawa, MT5ForConditionalGeneration):
    """mT5 with an adaptor."""


_CLASSES = {kind.__mro__[2].__name__: kind for kind in (PawaT5, PawaMT5)}


def add_pawa(model: PreTrainedModel, layers: int, *, seed: int = 0) -> PreTrainedModel:
    """Gives a model an adaptor, in place.

    Args:
        model: A model that already has the docid alphabet.
        layers: Layers of the adaptor's decoder.
        seed: Seed of its random weights.

    Raises:
        InputError: It is not a T5 or mT5.
    """
    name = type(model).__name__
    if name not in _CLASSES:
        raise InputError(
            f"--model.head pawa supports only the decoders of T5 and mT5, not a {name}",
            hint="Use another --model.pretrained, or --model.head linear",
        )
    config: Any = model.config
    network: Any = model
    network.__class__ = _CLASSES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network.pawa = PrefixAdaptor(
            config.d_model,
            config.d_ff,
            config.num_heads if config.d_model % config.num_heads == 0 else 1,
            layers,
            config.vocab_size,
            config.dropout_rate,
        )
    setattr(config, LAYERS, layers)
    config.use_cache = network.generation_config.use_cache = False
    return network.train(model.training)


def plain_class(model: PreTrainedModel) -> str:
    """Returns the name of a model's transformers class, with or without adaptor."""
    kind = type(model)
    return next((name for name, with_one in _CLASSES.items() if with_one is kind), kind.__name__)
