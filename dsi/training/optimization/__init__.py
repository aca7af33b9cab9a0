"""Optimization: optimizers, learning rates, adapters, sharpness-aware minimization."""
