"""Files of document ids: one per line, taken literally."""

from __future__ import annotations

import gzip

import pytest

from data_prep.errors import InputError
from dsi.search.options import read_doc_ids


@pytest.mark.parametrize(
    ("content", "ids"),
    [
        (b"a\nb\n", ["a", "b"]),
        (b"\xef\xbb\xbfa\r\nb", ["a", "b"]),
        (b"a \n  b\n\n \t\nc\td\n", ["a ", "  b", "c\td"]),
        ("a\u2028b\nc\x0bd\x1c\n".encode(), ["a\u2028b", "c\x0bd\x1c"]),
        (b"a\rb\r", ["a", "b"]),
        (gzip.compress(b"a\nb\n", mtime=0), ["a", "b"]),
        ("a\nå\n".encode("utf-16"), ["a", "å"]),
        ("a\nb\n".encode("utf-16-le"), ["a", "b"]),
    ],
)
def test_an_id_is_all_of_its_line(tmp_path, content, ids):
    (tmp_path / "ids").write_bytes(content)
    assert read_doc_ids(tmp_path / "ids") == ids


def test_a_file_without_ids_is_refused(tmp_path):
    (tmp_path / "ids").write_text("\n \n")
    with pytest.raises(InputError, match="the file contains no document id"):
        read_doc_ids(tmp_path / "ids")
