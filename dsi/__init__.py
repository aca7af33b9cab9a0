"""The model: training, searching, updating, evaluating, the index directory, the command line."""
