"""Training examples: what they are made from, and the batches of every step."""
