"""A decoder-only language model as an index model: it reads a prompt and generates docid codes.

From the outside, it is an encoder-decoder like any other. Its encoder is the embedding of the text
tokens; its decoder is all layers, which read the prompt, PAD and the codes so far as one sequence.
Codes have an embedding and an output layer of their own in addition to the language model's, so
that the cost of a step depends on the docid alphabet and not on the vocabulary (LC-Rec and
MiniOneRec extend the vocabulary instead). PAD comes between the prompt and the first code, and its
row is trained like that of a code.

Prompts come right-padded, like all texts in the toolkit. Here their padding is moved to the left,
as in `generate`: this leaves no gap between the prompt and the first code, which sliding-window
attention would count.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from docids.table import PAD
from dsi.backbones.custom_attention import KEPT, capped, offer
from dsi.backbones.position_edits import rows_at

TIED = "dsi_tied_tokens"
"""Key in config.json: whether the input and output embeddings of the language model are tied."""

KINDS = (
    "gemma", "gemma2", "gemma3_text", "gpt2", "llama", "mistral", "opt", "qwen2", "qwen3",
    "smollm3",
)  # fmt: skip
"""The `model_type` of the supported families; SmolLM and SmolLM2 are Llamas."""
offer()


class TokenEncoder(nn.Module):
    """The embedding of text tokens, used as the encoder.

    Args:
        embed_tokens: The language model's own embedding.
    """

    def __init__(self, embed_tokens: nn.Module) -> None:
        super().__init__()
        self.embed_tokens = embed_tokens

    def get_input_embeddings(self) -> nn.Module:
        """Returns the embedding."""
        return self.embed_tokens

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> BaseModelOutput:
        """Returns the embedded tokens; [texts, longest, width]."""
        return BaseModelOutput(last_hidden_state=self.embed_tokens(input_ids))


class PromptedDecoder(nn.Module):
    """All layers of a language model, on top of the embedding of codes.

    Args:
        language_model: The layers; their own embedding is removed.
        embed_tokens: The embedding of codes.
    """

    def __init__(self, language_model: Any, embed_tokens: nn.Module) -> None:
        super().__init__()
        self.language_model = language_model
        self.embed_tokens = embed_tokens
        language_model.set_input_embeddings(nn.Identity())
        language_model.config._attn_implementation = KEPT

    @property
    def base_model(self) -> PromptedDecoder:
        """This decoder: the output layer is not part of it."""
        return self

    def get_input_embeddings(self) -> nn.Module:
        """Returns the embedding of codes."""
        return self.embed_tokens

    def forward(
        self,
        input_ids: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        encoder_attention_mask: torch.Tensor,
    ) -> BaseModelOutput:
        """Reads prompts and codes.

        Args:
            input_ids: PAD and codes; int64 [texts, positions].
            encoder_hidden_states: Embedded prompts; [texts, longest, width].
            encoder_attention_mask: 1 at their tokens, 0 at padding on either side; [texts,
                longest].

        Returns:
            The last states at the codes; [texts, positions, width].
        """
        order = encoder_attention_mask.argsort(dim=1, stable=True)
        prompts = encoder_hidden_states.gather(
            1, order.unsqueeze(-1).expand(-1, -1, encoder_hidden_states.shape[2])
        )
        full_mask = torch.cat(
            [encoder_attention_mask.gather(1, order), torch.ones_like(input_ids)], 1
        )
        depths = torch.arange(full_mask.shape[1], device=full_mask.device) - prompts.shape[1]
        with rows_at(depths.clamp_min(-1)):
            outputs = self.language_model(
                inputs_embeds=torch.cat(
                    [prompts, self.embed_tokens(input_ids).to(prompts.dtype)], 1
                ),
                attention_mask=full_mask,
                position_ids=(full_mask.cumsum(1) - 1).clamp_min(0),
                use_cache=False,
            )
        return BaseModelOutput(last_hidden_state=outputs.last_hidden_state[:, prompts.shape[1] :])


class PromptedLanguageModel(PreTrainedModel):
    """See the module docstring.

    Args:
        config: Configuration of the language model.
        language_model: Its layers and embedding, without its output layer.
        alphabet_size: Size of the docid alphabet.
        draw: False leaves new weights uninitialized, for a caller that writes all of them.
    """

    base_model_prefix = "decoder"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(
        self, config: Any, language_model: Any, alphabet_size: int, *, draw: bool = True
    ) -> None:
        config = copy.deepcopy(config)
        config.vocab_size = alphabet_size
        config.tie_word_embeddings = False
        super().__init__(config)
        text = language_model.get_input_embeddings()
        text.padding_idx = None
        codes = copy.deepcopy(text)
        make = torch.randn if draw else torch.empty
        width = text.weight.shape[1]
        std = float(getattr(config, "initializer_range", None) or 0.02)
        codes.weight = nn.Parameter(make(alphabet_size, width) * std)
        codes.num_embeddings = alphabet_size
        self.encoder = TokenEncoder(text)
        self.decoder = PromptedDecoder(language_model, codes)
        self.lm_head = nn.Linear(width, alphabet_size, bias=False)
        nn.init.normal_(self.lm_head.weight, std=width**-0.5)

    @property
    def architecture(self) -> str:
        """The transformers class of the language model."""
        return str(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[self.config.model_type])

    def get_encoder(self, modality: str | None = None) -> TokenEncoder:
        """Returns the embedding of text tokens."""
        return self.encoder

    def get_decoder(self) -> PromptedDecoder:
        """Returns the layers."""
        return self.decoder

    def get_input_embeddings(self) -> nn.Module:
        """Returns the embedding of text tokens."""
        return self.encoder.embed_tokens

    def get_output_embeddings(self) -> nn.Linear:
        """Returns the output layer of codes."""
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replaces the output layer."""
        self.lm_head = new_embeddings

    @property
    def softcap(self) -> float | None:
        """The soft cap of logits, as in the language model (Gemma 2); None for none."""
        return getattr(self.config, "final_logit_softcapping", None)

    def capped(self, logits: torch.Tensor) -> torch.Tensor:
        """Returns logits soft-capped at `softcap`."""
        return capped(logits, self.softcap)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        encoder_outputs: Any = None,
        use_cache: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
    ) -> Seq2SeqLMOutput:
        """Returns the logits of the codes after each of some codes; [texts, positions, alphabet].

        Args:
            input_ids: The prompts; int64 [texts, longest].
            attention_mask: 1 at tokens, 0 at padding; [texts, longest].
            decoder_input_ids: PAD and codes; int64 [texts, positions].
            encoder_outputs: Embedded prompts instead of `input_ids`, as the first element of a
                tuple.
            use_cache: Must be false: search has its own cache (`dsi.search.decoders`).
            output_hidden_states: Whether to return the input of the output layer.
            return_dict: Must be true.
        """
        assert attention_mask is not None
        assert decoder_input_ids is not None
        assert not use_cache
        if encoder_outputs is None:
            assert input_ids is not None
            encoder_outputs = (self.encoder(input_ids).last_hidden_state,)
        prompts = encoder_outputs[0]
        states = self.decoder(decoder_input_ids, prompts, attention_mask).last_hidden_state
        return Seq2SeqLMOutput(
            logits=self.capped(self.lm_head(states)),
            decoder_hidden_states=(states,) if output_hidden_states else None,
            encoder_last_hidden_state=prompts,
        )


def empty_language_model(config: Any, text_rows: int, alphabet_size: int) -> PromptedLanguageModel:
    """Builds an index model with uninitialized weights.

    Args:
        config: Configuration of the language model.
        text_rows: Number of rows of its token embedding.
        alphabet_size: Size of the docid alphabet.
    """
    inner = copy.deepcopy(config)
    inner.vocab_size = text_rows
    # The attention implementation is chosen afterwards.
    body = AutoModel.from_config(inner, attn_implementation="eager")
    return PromptedLanguageModel(config, body, alphabet_size, draw=False)


def copy_token_rows(model: Any, words: torch.Tensor, tokens: npt.NDArray[np.int64]) -> None:
    """Gives codes the embedding and output rows of tokens, in place.

    Args:
        model: The index model.
        words: The output rows of the language model; floating [tokens, width].
        tokens: The token of each code; int64 [alphabet], -1 for codes that keep their rows. PAD
            keeps its output row: no identifier has it.
    """
    codes = torch.from_numpy(np.flatnonzero(tokens >= 0))
    of = torch.from_numpy(tokens)[codes]
    with torch.no_grad():
        model.decoder.embed_tokens.weight[codes] = model.encoder.embed_tokens.weight[of]
        written = codes != PAD
        model.lm_head.weight[codes[written]] = words[of[written]]


def tied(model: Any) -> bool:
    """Whether the language model that an index started from has tied embeddings."""
    return bool(getattr(model.config, TIED, False))


def is_prompted(model: Any) -> bool:
    """Whether a network is a pretrained language model with codes."""
    return isinstance(model, PromptedLanguageModel)
