"""Regularization of weights: per-sample gradients and weight penalties."""
