"""Size limits of the input readers.

Input over a limit is refused with its line number. A document may be as long as `LONGEST_RECORD`;
no part of it is excluded from a vocabulary because of its length.
"""

LONGEST_LINE = 2**26
"""Maximum characters per line of a text file; a small compressed file can hold a huge line."""

LONGEST_RECORD = 2**26
"""Maximum characters of a record that spans lines: a TREC document or topic, a CSV record."""

LONGEST_WORD = 1_000
"""Maximum characters of a word. Longer ones, on which sentencepiece fails, are split."""

LONGEST_SENTENCE = 2**18
"""Maximum characters of a sentencepiece training line, which it ignores beyond 2^20 bytes."""
