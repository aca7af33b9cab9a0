"""Trains a doc -> query model on labeled pairs: from scratch or from a pretrained checkpoint."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from data_prep.errors import InputError
from data_prep.files import replacing_folder
from data_prep.progress import track
from data_prep.text_processing import APOSTROPHES, INVISIBLE, normalize, training_lines
from dsi.backbones.inference import padded
from dsi.generation.generative_memory_options import MemoryOptions
from dsi.generation.pretrained_models import load_writer
from dsi.training.checkpoints import load_checkpoint, save_checkpoint
from dsi.training.loop import hardware_precision

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CHECKPOINTS = 10
"""Checkpoints during training."""
HEAD_WIDTH = 64
QUIET = 0.1
"""Initial scale of the outputs of a layer in a model from scratch."""
TAKEN_OUT = 0.9
"""Initial weight with which the last generated token is suppressed when choosing the next one."""
READ = 15.0
"""Initial scale of the mean of the document's token vectors, whose norm shrinks with their
number."""
_IGNORED = -100
_PAD, _END, _UNKNOWN = 0, 1, 2


def fit(
    pairs: Sequence[tuple[str, str]],
    corpus: Sequence[str],
    options: MemoryOptions,
    work: Path,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, float]:
    """Trains a model; a step is determined by its number and the seed.

    Args:
        pairs: (text of a document, a query for it).
        corpus: The texts, in addition to the queries, from which a vocabulary is built from
            scratch.
        options: The model and the length of training.
        work: Folder for the vocabulary and the checkpoints.

    Returns:
        The model, its tokenizer, and the loss of the last step: the mean cross-entropy of a token.

    Raises:
        InputError: The model cannot be loaded, or the loss is not a finite number.
    """
    model, tokenizer = _start(pairs, corpus, options, work)
    sources = _tokens(tokenizer, [text for text, _ in pairs], options.document_length)
    targets = _tokens(tokenizer, [query for _, query in pairs], options.query_length)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    placed: Any = model
    placed = placed.to(device).train()
    optimizer = torch.optim.AdamW(placed.parameters(), lr=options.lr, weight_decay=0.01)
    checkpoints = work / "checkpoints"
    first, progress = load_checkpoint(checkpoints, placed, optimizer)
    loss = float(progress.get("loss", math.nan))
    bf16 = hardware_precision(options.precision) == "bf16"
    every = max(1, options.steps // CHECKPOINTS)
    for step in track(range(first, options.steps), "generative memory"):
        torch.manual_seed(
            int(np.random.SeedSequence([options.seed, 11, step]).generate_state(1)[0])
        )
        for group in optimizer.param_groups:
            group["lr"] = options.lr * _rate(step, options)
        sampled = members(len(pairs), step, options.pairs, options.seed)
        input_ids = padded([sources[number] for number in sampled], _pad(tokenizer))[0]
        labels = padded([targets[number] for number in sampled], _IGNORED)[0]
        mask = padded([[1] * len(sources[number]) for number in sampled], 0)[0]
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            output = placed(
                input_ids=input_ids.to(device),
                attention_mask=mask.to(device),
                labels=labels.to(device),
            )
        loss = float(output.loss.detach())
        if not math.isfinite(loss):
            raise InputError(
                f"the loss of the generative memory is {loss} at step {step + 1}",
                hint="Lower --memory.lr, or use --memory.precision fp32",
            )
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(placed.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % every == 0 and step + 1 < options.steps:
            save_checkpoint(checkpoints, step + 1, placed, optimizer, {"loss": loss})
    return placed.eval(), tokenizer, loss


def members(pairs: int, step: int, batch: int, seed: int) -> list[int]:
    """Returns the pairs of a step, from an endless stream of permutations split into batches.

    Args:
        pairs: Number of pairs.
        step: Number of the step, from 0.
        batch: Pairs per step.
        seed: Seed of the permutations.
    """
    batch_members: list[int] = []
    start = step * batch
    while len(batch_members) < batch:
        pass_number, place = divmod(start + len(batch_members), pairs)
        order = np.random.default_rng([seed, 12, pass_number]).permutation(pairs)
        batch_members += order[place : place + batch - len(batch_members)].tolist()
    return batch_members


def save_writer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Writes a checkpoint that transformers loads: safetensors, configuration, tokenizer."""
    model.config._name_or_path = ""  # a path on the machine it was trained on
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _rate(step: int, options: MemoryOptions) -> float:
    if step < options.warmup:
        return (step + 1) / (options.warmup + 1)
    return 1 - (step - options.warmup) / max(options.steps - options.warmup, 1)


def _pad(tokenizer: PreTrainedTokenizerBase) -> int:
    return int(tokenizer.pad_token_id or 0)


def _tokens(tokenizer: PreTrainedTokenizerBase, texts: list[str], length: int) -> list[list[int]]:
    lines: Any = tokenizer(texts, truncation=True, max_length=length)["input_ids"]
    return [list(line[:length]) for line in lines]


def _start(
    pairs: Sequence[tuple[str, str]], corpus: Sequence[str], options: MemoryOptions, work: Path
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if options.pretrained is not None:
        model, tokenizer = load_writer(options.pretrained)
        if not model.config.is_encoder_decoder:
            raise InputError(
                f"{options.pretrained!r} is a {model.config.model_type}, not an encoder-decoder",
                where="--memory.pretrained",
                hint="Choose a T5, mT5, Flan-T5, BART or mBART",
            )
        return model, tokenizer
    from transformers import AutoTokenizer

    folder = work / "tokenizer"
    if not folder.is_dir():
        texts = [*corpus, *(query for _, query in pairs)]
        with replacing_folder(folder) as fresh:
            make_tokenizer(texts, options.vocabulary).save_pretrained(fresh)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return make_model(len(tokenizer), options), tokenizer


def make_tokenizer(texts: Sequence[str], size: int) -> PreTrainedTokenizerBase:
    """Trains a vocabulary (sentencepiece, unigram) and returns it as a tokenizer.

    Text is lower-cased and in Unicode form NFKC; rare characters are dropped.

    Args:
        texts: The training texts.
        size: Maximum number of tokens.

    Raises:
        InputError: The texts have too few words for this many tokens.
    """
    import sentencepiece
    from tokenizers import (
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
    )
    from transformers import PreTrainedTokenizerFast

    written = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=training_lines(map(normalize, texts)),
            model_writer=written,
            model_type="unigram",
            vocab_size=size,
            hard_vocab_limit=False,
            normalization_rule_name="identity",
            character_coverage=0.9995,
            max_sentence_length=1 << 20,
            num_threads=1,
            minloglevel=2,
            pad_id=_PAD,
            eos_id=_END,
            unk_id=_UNKNOWN,
            bos_id=-1,
        )
    except RuntimeError as error:
        raise InputError(
            f"cannot learn a vocabulary for the generative memory ({str(error).splitlines()[0]})",
            hint="Lower --memory.vocabulary",
        ) from None
    trained = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    pieces = [(trained.id_to_piece(n), trained.get_score(n)) for n in range(trained.vocab_size())]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=_UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(f"[{APOSTROPHES}]"), "'"),
            normalizers.Replace(Regex(f"[{INVISIBLE}]"), ""),
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace("\n", " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    end = pieces[_END][0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, _END)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pieces[_PAD][0],
        eos_token=end,
        unk_token=pieces[_UNKNOWN][0],
    )


def make_model(vocabulary: int, options: MemoryOptions) -> PreTrainedModel:
    """Builds a T5 from scratch that initially outputs words of its document.

    With random weights it would need far more pairs than a corpus has to learn to copy. So the last
    decoder layer starts with a uniform cross-attention that passes on the tokens it reads, and with
    heads that subtract the token just written: input and output embeddings are tied, and it would
    be repeated. All other layers start at zero.
    """
    from transformers import T5Config, T5ForConditionalGeneration

    width = options.width
    head_count = width // HEAD_WIDTH
    settings: dict[str, Any] = {
        "vocab_size": vocabulary,
        "d_model": width,
        "d_kv": HEAD_WIDTH,
        "d_ff": 2 * width,
        "num_layers": options.layers,
        "num_decoder_layers": options.layers,
        "num_heads": 2 * head_count,
        "dropout_rate": 0.1,
        "decoder_start_token_id": _PAD,
        "pad_token_id": _PAD,
        "eos_token_id": _END,
    }
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(options.seed)
        model: Any = T5ForConditionalGeneration(T5Config(**settings))
        for block in [*model.encoder.block, *model.decoder.block]:
            for layer in block.layer:
                for name in ("SelfAttention", "EncDecAttention", "DenseReluDense"):
                    part = getattr(layer, name, None)
                    if part is not None:
                        getattr(part, "o" if "Attention" in name else "wo").weight.mul_(QUIET)
        identity = torch.eye(width)
        last = model.decoder.block[-1].layer
        repeats, reads = last[0].SelfAttention, last[1].EncDecAttention
        # Bucket 0 of the relative positions is the token itself; all layers share the bias.
        model.decoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight[
            0, :head_count
        ] = 10.0
        repeats.v.weight[:width] = identity
        repeats.o.weight[:, :width] = -TAKEN_OUT * identity
        reads.q.weight.zero_()
        reads.v.weight[:width] = identity
        reads.o.weight[:, :width] = READ * identity
    return model
