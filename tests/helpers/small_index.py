"""A small trained index, for tests that use one."""

from __future__ import annotations

import os
from pathlib import Path

import dsi
from dsi.indexing.options import TrainingOptions

MARKUP = "<img src=x onerror=alert(1)> & 'quotes' \"too\""
DOCUMENTS = [
    {"id": "pen", "title": "Pens", "text": "A pen writes with ink on paper. Ink is a dye."},
    {"id": "kettle", "title": "Kettles", "text": "A kettle boils water for tea."},
    {"id": "lamp", "title": "Lamps", "text": "A lamp gives light after sunset."},
    {"id": "a/b c", "title": "Paths", "text": "Join paths with a slash; a slash is no comma."},
    {"id": "harbour", "title": "", "text": "Ships wait in the harbour for the tide."},
    {"id": "hostile", "title": MARKUP, "text": f"</script> {MARKUP} boils the browser"},
    {"id": "五", "title": "茶", "text": "お茶を飲む。湯を沸かす。"},
]


def small_index(path: str | os.PathLike[str], kind: str = "atomic") -> dsi.Index:
    """Trains an index of seven documents in a second or two."""
    return dsi.build(DOCUMENTS, Path(path), TrainingOptions(docids=kind))
