"""A plain checkpoint of transformers: codes are tokens behind the words, in one vocabulary.

Code c is the token `<c_N>`, PAD, behind which an identifier begins, `<docid>`, and END, which is
what ends a sequence, `</docid>`. Output rows of words are zero: the constraint leaves them out
(`dsi.export.constraint`).
"""

from __future__ import annotations

import copy
from typing import Any

import torch

from data_prep.errors import InputError
from docids.table import END, PAD
from dsi.backbones.language_model import is_prompted
from dsi.backbones.output_states import map_of
from dsi.backbones.position_edits import edited_layer
from dsi.export.base import FORMATS, IDS, NAMES, SETTINGS, Exporting
from dsi.text_encoders.prompt_pool import PromptPool
from dsi.text_encoders.prompt_template import TemplateEncoder
from dsi.text_encoders.text_encoder import PretrainedEncoder

_SHARED = ("t5", "mt5", "umt5", "longt5", "bart", "mbart")
"""Encoder-decoders whose words and codes can share one embedding matrix."""
_START, _END = "<docid>", "</docid>"
_README = """# A generative index as a transformers checkpoint

It answers with the identifiers of {documents:,} documents, which are the last {codes:,} tokens of
its vocabulary. Ten lines for the ranking that `dsi search` gives with as many beams:

```python
from transformers import {auto}, AutoTokenizer
from dsi.export import Exported

exported = Exported.open("{folder}")
tokenizer = AutoTokenizer.from_pretrained("{folder}")
model = {auto}.from_pretrained("{folder}"{attention})
texts = exported.prompts(["a query"])
inputs = tokenizer(texts, return_tensors="pt", padding=True{tokenizing})
found = model.generate(
    **inputs, logits_processor=[exported.processor(inputs)], num_beams={beams},
    num_return_sequences={beams}, **exported.options
)
print(exported.documents(found, inputs))
```

What an engine needs:

- `{ids}`: token ids of the identifiers, int32 [documents, longest], sorted, -1 behind the end of a
  shorter one; `{names}`: the id of the document of each row.
- `{settings}`: the id of code 0 (`first_code`), how many there are (`codes`), what a query is put
  into (`prompt`), what starts (`start`) and ends (`end`) an identifier, and whether scores are over
  all codes ("model") or over those that may follow ("constrained").
- Scores are over codes: subtract the log-sum of their probabilities from each, for output rows of
  words are zero and mean nothing. What ends a whole identifier costs nothing.
- Queries were read up to {query_length} tokens.
"""


@FORMATS.register("hf")
def hf(exporting: Exporting) -> None:
    """Writes checkpoint, tokenizer, table and README."""
    index = exporting.index
    prompted = is_prompted(index.model)
    write_checkpoint(exporting, "hf")
    readme = _README.format(
        documents=len(exporting.doc_ids),
        codes=index.table.alphabet_size,
        auto="AutoModelForCausalLM" if prompted else "AutoModelForSeq2SeqLM",
        folder="FOLDER",
        attention=attention_argument(index.model.config),
        tokenizing=', padding_side="left", add_special_tokens=False'
        if prompted
        else f", truncation=True, max_length={index.manifest.query_length}",
        beams=index.manifest.beams,
        ids=IDS,
        names=NAMES,
        settings=SETTINGS,
        query_length=index.manifest.query_length,
    )
    (exporting.folder / "README.md").write_text(readme, encoding="utf-8")


def attention_argument(config: Any) -> str:
    """Returns the argument of `from_pretrained` that an exported network needs, for its README.

    PyTorch's fused attention cannot soft-cap scores, and several versions of transformers take it
    for Gemma 2 nevertheless.
    """
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None)
    return ', attn_implementation="eager"' if capped else ""


def token_name(code: int) -> str:
    """Returns the token that stands for a code."""
    return {PAD: _START, END: _END}.get(code, f"<c_{code}>")


def write_checkpoint(exporting: Exporting, format: str) -> None:
    """Writes checkpoint, tokenizer and table.

    Args:
        exporting: The index.
        format: Name of the format, for the settings.

    Raises:
        InputError: The index is no plain checkpoint of transformers.
    """
    index, folder = exporting.index, exporting.folder
    model: Any = index.model
    text = index.text
    _refuse_others(model, text)
    assert isinstance(text, (TemplateEncoder, PretrainedEncoder))
    tokenizer = text.tokenizer
    words = len(tokenizer)
    alphabet = index.table.alphabet_size
    tokens = [token_name(code) for code in range(alphabet)]
    tokenizer = _with_codes(tokenizer, tokens, words)
    plain = merged(model, words, alphabet)
    first = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": words + END}
    for settings in (plain.config, plain.generation_config):
        for name, value in first.items():
            setattr(settings, name, value)
        settings.bos_token_id = settings.forced_bos_token_id = settings.forced_eos_token_id = None
        settings.decoder_start_token_id = None if is_prompted(model) else words + PAD
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    prompt = None
    if isinstance(text, TemplateEncoder):
        prompt = text.written + _START
    exporting.write_table(
        words,
        format=format,
        first_code=words,
        codes=alphabet,
        documents=len(exporting.doc_ids),
        prompt=prompt,
        query_length=index.manifest.query_length,
        start=words + PAD,
        end=words + END,
        score=index.manifest.score,
        beams=index.manifest.beams,
    )


def _refuse_others(model: Any, text: Any) -> None:
    """Raises InputError for indexes that are no plain checkpoint of transformers."""
    from dsi.backbones.pooled_encoder import pooled

    if pooled(model):
        raise InputError(
            "the format hf: a decoder behind a pretrained encoder is not a transformers "
            "architecture",
            hint="Export as static, or train from --model.pretrained",
        )
    if hasattr(model, "pawa"):
        raise InputError(
            "the format hf: no engine supports the output layer of --model.head pawa",
            hint="Export as static, or train with --model.head linear",
        )
    if edited_layer(model) is not None:
        raise InputError(
            "the format hf: no engine supports edits that act at one position of an identifier "
            "(--strategy edit)",
            hint="Export as static, or update with another --strategy",
        )
    state_map = map_of(model)
    if state_map is not None:
        raise InputError(
            f"the format hf: no engine supports what --strategy {state_map.strategy} adds before "
            "the output layer",
            hint="Export as static, or update with another --strategy",
        )
    if isinstance(text, PromptPool):
        raise InputError(
            "the format hf: no engine supports --strategy prompts, which selects prompts by the "
            "topic of a query",
            hint="Export as static, or update with another --strategy",
        )
    if not isinstance(text, (TemplateEncoder, PretrainedEncoder)):
        raise InputError(
            "the format hf: the vocabulary of a model from scratch is not a transformers tokenizer",
            hint="Export as static, or train from --model.pretrained",
        )
    if not is_prompted(model) and model.config.model_type not in _SHARED:
        raise InputError(
            f"the format hf: a {model.config.model_type} has no embedding that tokens and codes "
            "can share",
            hint="Export as static, or train from a language model or one of: "
            + ", ".join(_SHARED),
        )


def _with_codes(tokenizer: Any, tokens: list[str], words: int) -> Any:
    """Returns a copy of a tokenizer with a token for each code behind its words."""
    from transformers import AddedToken

    longer = copy.deepcopy(tokenizer)
    longer.add_tokens([AddedToken(each, special=True, normalized=False) for each in tokens])
    ids = longer.convert_tokens_to_ids(tokens)
    if ids != list(range(words, words + len(tokens))):
        raise InputError(
            "the format hf: the tokenizer already has tokens with these names, or gaps in its ids",
            hint="Export as static",
        )
    longer.eos_token = _END
    if longer.pad_token is None:
        longer.pad_token = _END
    return longer


def merged(model: Any, words: int, alphabet: int) -> Any:
    """Returns a network of transformers over words and codes, with the weights of an index."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM
    from transformers.initialization import no_init_weights

    config = copy.deepcopy(model.config)
    config.vocab_size = words + alphabet
    config.tie_word_embeddings = False
    prompted = is_prompted(model)
    kind: Any = AutoModelForCausalLM if prompted else AutoModelForSeq2SeqLM
    with no_init_weights():
        plain = kind.from_config(config, attn_implementation="eager")
    text = model.get_encoder().get_input_embeddings().weight[:words]
    codes = model.get_decoder().get_input_embeddings().weight[:alphabet]
    head = model.get_output_embeddings().weight[:alphabet]
    table = torch.cat([text, codes]).detach()
    output = torch.cat([head.new_zeros(words, head.shape[1]), head]).detach()
    body = model.decoder.language_model if prompted else model
    inner = plain.base_model if prompted else plain
    weights = body.state_dict()
    tables = {id(each) for each in _embeddings(plain)}
    last = id(plain.get_output_embeddings().weight)
    with torch.no_grad():
        for name, weight in inner.named_parameters(remove_duplicate=False):
            if id(weight) in tables:
                weight.copy_(table)
            elif id(weight) != last:
                weight.copy_(weights[name])
        for name, buffer in inner.named_buffers():
            if name in weights and weights[name].shape == buffer.shape:
                buffer.copy_(weights[name])
        plain.get_output_embeddings().weight.copy_(output)
    if hasattr(plain, "final_logits_bias"):
        plain.final_logits_bias.zero_()
    return plain.eval()


def _embeddings(plain: Any) -> list[Any]:
    """Returns the weights of the tables that tokens are looked up in."""
    if not plain.config.is_encoder_decoder:
        return [plain.get_input_embeddings().weight]
    return [
        part.get_input_embeddings().weight
        for part in (plain, plain.get_encoder(), plain.get_decoder())
    ]
