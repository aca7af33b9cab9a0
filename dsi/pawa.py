"""NCI's prefix-aware weight-adaptive output layer (Wang et al. 2022, section 3.3.3, and its code).

A code's meaning depends on the codes before it. So the output layer's weights are adapted to the
prefix of each position. For a position with decoder state z, after codes whose embeddings are e:

    h      = last state of a small transformer decoder over e, with a causal mask, whose memory is
             one learned vector
    logits = z W + z Delta,   Delta[:, v] = A_v h

with W the plain output layer and A_v a square matrix for each code v, without a bias. A starts at
0, and with it the model at what it is without the adaptor.

h depends on the prefix alone and not on the query. A model keeps the class that transformers gave
it, but for `forward`; it has no cache of keys and values, since the adaptor reads all codes.
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
    """What adapts the output layer to prefixes.

    Args:
        width: Of embeddings and decoder states.
        inner: Of its feed-forward layers.
        heads: Of its attention; they divide the width.
        layers: Of its decoder.
        alphabet: Codes of the output layer.
        dropout: Share of its hidden values dropped in training.
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
        """Returns what is added to the logits; [examples, positions, alphabet].

        Args:
            states: Of the decoder, z; [examples, positions, width].
            embeddings: Of what the decoder has read at each position; same shape.
        """
        return self.adapted(states, self.prefixes(embeddings))

    def prefixes(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Returns h of every position; [lines, positions, width] in and out."""
        length = embeddings.shape[1]
        later = torch.ones(length, length, dtype=torch.bool, device=embeddings.device).triu(1)
        memory = self.memory.to(embeddings.dtype).expand(len(embeddings), -1, -1)
        return self.decoder(embeddings, memory, tgt_mask=later)

    def adapted(self, states: torch.Tensor, prefixes: torch.Tensor) -> torch.Tensor:
        """Returns z Delta; [..., width] twice in, [..., alphabet] out."""
        alphabet, width, _ = self.weight.shape
        if alphabet > width:
            pairs = (states.unsqueeze(-1) * prefixes.unsqueeze(-2)).flatten(-2)
            return functional.linear(pairs, self.weight.flatten(1))
        delta = functional.linear(prefixes, self.weight.view(-1, width))
        delta = delta.view(*prefixes.shape[:-1], alphabet, width)
        return torch.matmul(delta, states.unsqueeze(-1)).squeeze(-1)

    def lengthen(self, alphabet: int) -> None:
        """Makes room for more codes, to which prefixes make no difference yet."""
        more = alphabet - len(self.weight)
        if more > 0:
            old = self.weight.detach()
            self.weight = nn.Parameter(torch.cat([old, old.new_zeros(more, *old.shape[1:])]))


class _Pawa:
    """A T5 whose logits the adaptor `pawa` has a part in."""

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        **options: Any,
    ) -> Any:
        """As T5's own; `decoder_input_ids` are all codes so far, and labels are not taken."""
        if options.get("labels") is not None or options.get("past_key_values") is not None:
            raise ValueError("a model with an adaptor takes whole identifiers, and no labels")
        asked = options.pop("output_hidden_states", False)
        options["use_cache"] = False
        model: Any = super()
        outputs = model.forward(
            input_ids,
            attention_mask,
            decoder_input_ids=decoder_input_ids,
            output_hidden_states=True,
            **options,
        )
        own: Any = self
        embeddings = own.get_decoder().get_input_embeddings()(decoder_input_ids)
        added = own.pawa(outputs.decoder_hidden_states[-1], embeddings)
        outputs["logits"] = outputs.logits + added
        if not asked:
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
        model: With the docid alphabet already.
        layers: Of the adaptor's decoder.
        seed: Of its random weights.

    Raises:
        InputError: It is no T5 or mT5.
    """
    name = type(model).__name__
    if name not in _CLASSES:
        raise InputError(
            f"--model.head pawa is made for the decoders of T5 and mT5, and this is a {name}",
            hint="Take another --model.pretrained, or --model.head linear",
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
    """Returns the name of the class of transformers that a model is of, adaptor or not."""
    kind = type(model)
    return next((name for name, with_one in _CLASSES.items() if with_one is kind), kind.__name__)
