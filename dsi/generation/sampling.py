"""Samples texts from a language model: batched by length, with results independent of batching."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from data_prep.errors import InputError
from data_prep.generators.base import GeneratorOptions, distinct
from data_prep.marks import Advanced, Count, Positive
from data_prep.text_processing import one_line
from dsi.generation.pretrained_models import load_writer
from dsi.generation.prompts import Prompt, fitted
from dsi.text_encoders.prompt_template import ChatFrame

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ROUNDS = 3
"""Maximum number of sampling rounds for a text, of which later ones replace repeated queries."""


@dataclass(frozen=True)
class SamplingOptions(GeneratorOptions):
    """How queries are sampled from a model."""

    top_k: Advanced[Count] = 10
    """Sample from the top k tokens; 1 is greedy"""
    temperature: Advanced[Positive] = 1.0
    """Sampling temperature"""
    document_length: Advanced[Count] = 256
    """Maximum input tokens, prompt included"""
    query_length: Advanced[Count] = 48
    """Maximum tokens per query"""
    batch: Advanced[Count] = 128
    """Queries per batch; changes speed and memory, not the queries"""
    precision: Advanced[Literal["auto", "bf16", "fp32"]] = "auto"
    """Numeric precision; auto is bf16 where the hardware supports it"""


class Sampler:
    """A language model that generates short texts.

    The output for a prompt depends on the prompt, the seed and the options, not on the other
    prompts in the batch: every sample has random numbers of its own.

    Args:
        model: An encoder-decoder, or a causal model that continues the prompt.
        tokenizer: Its tokenizer.
        options: How to sample.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        options: SamplingOptions,
    ) -> None:
        import torch

        from dsi.training.loop import hardware_precision

        self.options = options
        self.tokenizer = tokenizer
        self.causal = not model.config.is_encoder_decoder
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        bf16 = hardware_precision(options.precision) == "bf16"
        placed: Any = model
        self.model = placed.to(self.device, torch.bfloat16 if bf16 else torch.float32).eval()
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = "left" if self.causal else "right"
        self._frame: ChatFrame | None = None
        """Of chats; None where prompts are read as they are."""

    @classmethod
    def open(cls, name: str, options: SamplingOptions) -> Sampler:
        """Loads a transformers checkpoint; never runs code from it.

        Args:
            name: A hub id, the path of a folder, or a GGUF file.
            options: How to sample.

        Raises:
            InputError: It cannot be loaded, or does not generate text.
        """
        return cls(*load_writer(name), options)

    def chat(self, system: str = "") -> None:
        """Applies the tokenizer's chat template to every prompt from now on.

        Args:
            system: The system message; none if empty.

        Raises:
            InputError: The model is an encoder-decoder, or its tokenizer has no such template.
        """
        if not self.causal or not self.tokenizer.chat_template:
            what = (
                "its tokenizer has no chat template" if self.causal else "it is an encoder-decoder"
            )
            raise InputError(
                f"--seq2seq.chat is for instruction-tuned models, and {what}",
                hint="Omit it, or give the -it or -instruct version of the model",
            )
        try:
            self._frame = ChatFrame.of(self.tokenizer, system)
        except ValueError as error:
            raise InputError(
                f"--seq2seq.chat: the chat template rejects these messages ({error!s:.200})",
                hint="Omit --seq2seq.system" if system else "Omit --seq2seq.chat",
            ) from None

    def sample(
        self, prompts: Sequence[str | Prompt], per_prompt: int, seed: int
    ) -> list[list[str]]:
        """Returns at most `per_prompt` distinct texts for each prompt.

        Args:
            prompts: Input of the model, truncated to `document_length` tokens: a `Prompt` in its
                document, a text at its end.
            per_prompt: Number of distinct texts wanted; a peaked distribution may yield fewer.
            seed: Seed of the sampling.
        """
        written: list[list[str]] = [[] for _ in prompts]
        if not len(prompts):
            return written
        encoded = [self._encode(prompt) for prompt in prompts]
        texts = [prompt.text if isinstance(prompt, Prompt) else prompt for prompt in prompts]
        order = sorted(range(len(prompts)), key=lambda number: len(encoded[number]))
        for sampling_round in range(ROUNDS if self.options.top_k > 1 else 1):
            missing = [n for n in order if len(written[n]) < per_prompt and texts[n].strip()]
            step = max(1, self.options.batch // per_prompt)
            for start in range(0, len(missing), step):
                batch = missing[start : start + step]
                samples = self._draw(
                    [encoded[number] for number in batch],
                    [_random(texts[number], seed, sampling_round) for number in batch],
                    per_prompt if self.options.top_k > 1 else 1,
                )
                for number, queries in zip(batch, samples, strict=True):
                    written[number] = distinct([*written[number], *queries], per_prompt)
        return written

    def _encode(self, prompt: str | Prompt) -> list[int]:
        most = self.options.document_length
        if isinstance(prompt, Prompt):
            tokens = fitted(prompt, self._tokens, self.tokenizer, most) if prompt.text else []
        else:
            tokens = self._tokens(prompt, truncation=True, max_length=most)[:most]
        return tokens or [self.tokenizer.eos_token_id or 0]

    def _tokens(self, text: str, **limits: Any) -> list[int]:
        """Returns all token ids of a prompt, within the chat template if one is set."""
        reader: Any = self.tokenizer
        if self._frame is None:
            return list(reader(text, **limits)["input_ids"])
        return list(
            reader(self._frame.around(text), add_special_tokens=False, **limits)["input_ids"]
        )

    def _draw(
        self, lines: list[list[int]], randoms: list[np.random.Generator], copies: int
    ) -> list[list[str]]:
        """Returns `copies` texts for each line of token ids, in sampling order."""
        import torch

        options = self.options
        batch = self.tokenizer.pad({"input_ids": lines}, return_tensors="pt").to(self.device)
        noise = np.stack(
            [
                random.gumbel(size=(copies, options.query_length, options.top_k))
                for random in randoms
            ]
        ).astype(np.float32)
        noise = noise.reshape(-1, options.query_length, options.top_k)
        prompt = batch["input_ids"].shape[1] if self.causal else 1
        choose = _Choose(torch.from_numpy(noise).to(self.device), options.temperature, prompt)
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.inference_mode():
            writer: Any = self.model
            read = self._read_once(batch, copies) if self.causal and copies > 1 else None
            tokens = writer.generate(
                **(read or {"num_return_sequences": copies, **batch}),
                do_sample=True,
                num_beams=1,
                max_new_tokens=options.query_length,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                logits_processor=[choose],
                stopping_criteria=[_EndOfLine(self.tokenizer, prompt)] if self.causal else None,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        if self.causal:
            tokens = tokens[:, prompt:]
        texts = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        # A causal model continues after its query with the next example.
        texts = [text.strip().split("\n")[0] if self.causal else text for text in texts]
        if self._frame is not None:
            texts = [_bare(text) for text in texts]
        lines_of = [one_line(text) for text in texts]
        return [lines_of[start : start + copies] for start in range(0, len(lines_of), copies)]

    def _read_once(self, batch: Any, copies: int) -> dict[str, Any] | None:
        """Runs each prompt once for all its copies; `generate` would run every copy.

        The last token is left to `generate`, which starts from it.

        Args:
            batch: Token ids and attention mask; int64 [prompts, length] each.
            copies: Texts per prompt.

        Returns:
            The inputs of `generate`, [prompts * copies, length] each, with the keys and values of
            all tokens but the last; None if the model caches something else, such as the states of
            a recurrent network.
        """
        from transformers import DynamicCache

        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        if inputs["input_ids"].shape[1] < 2:
            return None
        positions = (inputs["attention_mask"].cumsum(1) - 1).clamp_min(0)[:, :-1]
        parameters = inspect.signature(self.model.forward).parameters
        more = {"position_ids": positions, "logits_to_keep": 1, "use_cache": True}
        reader: Any = self.model
        cache = reader(
            **{name: value[:, :-1] for name, value in inputs.items()},
            **{name: value for name, value in more.items() if name in parameters},
        ).past_key_values
        if type(cache) is not DynamicCache:
            return None
        cache.batch_repeat_interleave(copies)
        repeated = {name: value.repeat_interleave(copies, 0) for name, value in inputs.items()}
        return {**repeated, "past_key_values": cache}


class _Choose:
    """Samples the next token of every row independently, and masks all others.

    A sample from a softmax is the argmax of its logits after adding Gumbel noise (Gumbel 1954);
    with separate noise for each row, a row does not depend on the rest of the batch.

    Args:
        noise: float32 [rows, steps, top_k].
        temperature: Divisor of the logits.
        prompt: Number of tokens in the rows before the first step.
    """

    def __init__(self, noise: torch.Tensor, temperature: float, prompt: int) -> None:
        self.noise = noise
        self.temperature = temperature
        self.prompt = prompt

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        import torch

        step = input_ids.shape[1] - self.prompt
        most = min(self.noise.shape[2], scores.shape[1])
        best, tokens = scores.float().topk(most, dim=1)
        choices = (best / self.temperature + self.noise[:, step, :most]).argmax(dim=1)
        chosen = tokens.gather(1, choices[:, None])
        return torch.full_like(scores, -torch.inf).scatter(1, chosen, 0.0)


class _EndOfLine:
    """Ends a row of a causal model after its first line, since the rest is not used.

    Args:
        tokenizer: The model's tokenizer.
        prompt: Number of tokens in the rows before the first step.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt: int) -> None:
        self._tokenizer = tokenizer
        self._prompt = prompt

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        import torch

        texts = self._tokenizer.batch_decode(input_ids[:, self._prompt :], skip_special_tokens=True)
        ended = ["\n" in text.lstrip() for text in texts]
        return torch.tensor(ended, dtype=torch.bool, device=input_ids.device)


def _bare(text: str) -> str:
    """Strips the label, number or quotes that chat models put around an answer."""
    text = re.sub(r"^(?:\d+[.)]|[-*]|(?:question|query)\s*:)\s+", "", text.strip(), flags=re.I)
    quoted = re.fullmatch(r"[\"\u201c](.*)[\"\u201d]", text)
    return quoted[1] if quoted else text


def _random(prompt: str, seed: int, turn: int) -> np.random.Generator:
    digest = hashlib.blake2b(prompt.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.random.default_rng([seed, int.from_bytes(digest, "big"), turn])
