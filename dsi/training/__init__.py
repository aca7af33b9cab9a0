"""Training: from a Dataset to an index; a killed run can always be resumed."""
