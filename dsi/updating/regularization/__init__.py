"""What protects old weights: per-sample gradients and weight penalties."""
