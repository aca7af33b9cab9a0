"""Searching an index: prefix-constrained decoding, and the run files it is written to."""
