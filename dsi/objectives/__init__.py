"""Losses: small functions of logits and targets, one idea per file."""
