"""Six documents, for tests of code that uses an index."""

from __future__ import annotations

DOCUMENTS = [
    {"id": "pen", "title": "Pens", "text": "A pen writes with ink on paper."},
    {"id": "kettle", "title": "Kettles", "text": "A kettle boils water for tea."},
    {"id": "lamp", "title": "Lamps", "text": "A lamp gives light after sunset."},
    {"id": "ink", "title": "", "text": "Ink is a dye in water, for a pen."},
    {"id": "whale", "title": "Whales", "text": "The whale sings in cold water."},
    {"id": "bread", "title": "Bread", "text": "Bread rises when yeast is warm."},
]
