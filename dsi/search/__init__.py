"""Index search: prefix-constrained decoding, and run files for its results."""
