"""The first training of an index, from a dataset to a finished version: what `dsi train` does."""
