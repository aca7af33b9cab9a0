"""Training examples: how they are built, and the batches of every step."""
