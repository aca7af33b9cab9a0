"""The table of identifiers alone, for engines that constrain decoding by a matrix of identifiers.

STATIC, FlashRec and SID-GR take a sorted array of identifiers of one length and build their own
constraint from it.
"""

from __future__ import annotations

from data_prep.errors import InputError
from docids.table import FIRST_CODE
from dsi.export.base import FORMATS, IDS, NAMES, Exporting

_README = """# Identifiers of {documents:,} documents

- `{ids}`: codes, int32 [{documents}, {length}], sorted; code 0 is the first, and there are {codes}.
- `{names}`: the id of the document of each row.

An engine of the kind of STATIC builds its constraint from the array:

```python
import json
import numpy as np

sids = np.load("{ids}")
doc_ids = json.load(open("{names}", encoding="utf-8"))
# build_static_index(sids, vocab_size={codes}, ...): whatever the engine calls it
```

What it needs besides is a model that writes these codes: code c is the token of id
`first_code + c + {first}` in an export of the format hf of the same index (`docids.json` there).
"""


@FORMATS.register("static")
def static(exporting: Exporting) -> None:
    """Writes the sorted table with codes counted from 0, the documents and a README."""
    identifiers = exporting.identifiers
    if (identifiers < 0).any():
        raise InputError(
            f"identifiers of the kind {exporting.index.table.kind!r} have different lengths, but "
            "the format static requires a single length",
            hint="Export as hf, or use identifiers of one length: rq, pq, atomic, or semantic if "
            "all have the same length",
        )
    codes = exporting.index.table.alphabet_size - FIRST_CODE
    if (identifiers < FIRST_CODE).any():  # END is no code of a level
        raise InputError(
            f"identifiers of the kind {exporting.index.table.kind!r} end in a separate END code",
            hint="Export as hf",
        )
    exporting.write_table(
        -FIRST_CODE,
        format="static",
        codes=codes,
        length=int(identifiers.shape[1]),
        documents=len(identifiers),
    )
    text = _README.format(
        documents=len(identifiers),
        length=identifiers.shape[1],
        codes=codes,
        first=FIRST_CODE,
        ids=IDS,
        names=NAMES,
    )
    (exporting.folder / "README.md").write_text(text, encoding="utf-8")
