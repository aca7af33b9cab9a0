"""Training: from a Dataset to an index, in steps that any kill may interrupt."""
