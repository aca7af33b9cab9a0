"""The first training of an index, from a dataset to a finished version, as in `dsi train`."""
