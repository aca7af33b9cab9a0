"""How large one piece of input may be: every limit of the readers, in one place.

Whatever is over a limit of a file is refused with its line. A document may be as long as
`LONGEST_RECORD` allows; nothing of it is left out of a vocabulary for its length.
"""

LONGEST_LINE = 2**26
"""Characters of one line of a text file. A small compressed file can hold a line of gigabytes."""

LONGEST_RECORD = 2**26
"""Characters of one record that spans lines: a TREC document or topic, a CSV record."""

LONGEST_WORD = 1_000
"""Characters of one word. A longer one is read as several words; sentencepiece fails on it."""

LONGEST_SENTENCE = 2**18
"""Characters that sentencepiece is trained on at once. It passes over more than 2^20 bytes."""
