"""A checkpoint with a catalog of its identifiers, as vllm-gr serves one.

vllm-gr reads a checkpoint of transformers and a JSON file of the identifiers, each a list of tokens
(`--catalog-path`), and serves decoder-only models. Its log-probabilities run over the tokens that
may follow: an index whose scores run over all codes would be ranked differently.
"""

from __future__ import annotations

from data_prep.errors import InputError
from data_prep.files import write_json
from dsi.backbones.language_model import is_prompted
from dsi.export.base import FORMATS, IDS, NAMES, SETTINGS, Exporting
from dsi.export.hf import attention_argument, token_name, write_checkpoint

CATALOG = "catalog.json"
_README = """# A generative index for vllm-gr

It answers with the identifiers of {documents:,} documents, which are tokens of its vocabulary.

```
vllm serve --gr --catalog-path FOLDER/{catalog} FOLDER
```

A request is the prompt below with the query in it, beam search with `n` beams, and at most
{longest} new tokens, of which `</docid>` is the last. Choose the options that score over the tokens
that the catalog allows. vllm-gr itself is not part of the tests of this format. What it should find
is found by transformers alone:

```python
import json
from transformers import AutoModelForCausalLM, AutoTokenizer

settings = json.load(open("FOLDER/{settings}")); names = json.load(open("FOLDER/{names}"))
tokenizer = AutoTokenizer.from_pretrained("FOLDER", padding_side="left")
model = AutoModelForCausalLM.from_pretrained("FOLDER"{attention})
items = [tokenizer.convert_tokens_to_ids(item) for item in json.load(open("FOLDER/{catalog}"))]
rows = {{tuple(item): row for row, item in enumerate(items)}}
follow = {{}}
for item in items:
    for place in range(len(item)):
        follow.setdefault(tuple(item[:place]), set()).add(item[place])
texts = [settings["prompt"].replace("{{query}}", query) for query in ["a query"]]
inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
begun = inputs["input_ids"].shape[1]
found = model.generate(
    **inputs, num_beams={beams}, num_return_sequences={beams}, max_new_tokens={longest},
    do_sample=False, length_penalty=0.0, early_stopping="never", renormalize_logits=True,
    prefix_allowed_tokens_fn=lambda _, ids: sorted(
        follow.get(tuple(ids[begun:].tolist()), [settings["end"]])),
)
lines = [[*line[begun:].tolist(), settings["end"]] for line in found]
lines = [line[: line.index(settings["end"])] for line in lines]
print([names[rows.get((*line, settings["end"]), rows.get(tuple(line)))] for line in lines])
```

- `{catalog}`: the tokens of each identifier, sorted by their ids; `{ids}`: these ids.
- `{names}`: the id of the document of each identifier, in the same order.
- `{settings}`: the prompt, and what starts and ends an identifier.
"""


@FORMATS.register("vllm-gr")
def vllm_gr(exporting: Exporting) -> None:
    """Writes checkpoint, tokenizer, catalog, table and README."""
    index = exporting.index
    if not is_prompted(index.model):
        raise InputError(
            f"the format vllm-gr: a {index.model.config.model_type} is an encoder-decoder, which "
            "vLLM does not serve",
            hint="Export as hf, or train from a language model",
        )
    if index.manifest.score != "constrained":
        raise InputError(
            "the format vllm-gr: this index normalizes scores over all codes, but the engine "
            "normalizes over the codes that may follow",
            hint="Train with --loop.score constrained, or export as hf",
        )
    write_checkpoint(exporting, "vllm-gr")
    catalog = [
        [token_name(code) for code in line if code >= 0] for line in exporting.identifiers.tolist()
    ]
    write_json(exporting.folder / CATALOG, catalog)
    text = _README.format(
        documents=len(exporting.doc_ids),
        catalog=CATALOG,
        ids=IDS,
        names=NAMES,
        settings=SETTINGS,
        beams=index.manifest.beams,
        longest=exporting.identifiers.shape[1] + 1,
        attention=attention_argument(index.model.config),
    )
    (exporting.folder / "README.md").write_text(text, encoding="utf-8")
