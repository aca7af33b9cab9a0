"""How weights move: optimizers, learning rates, adapters, sharpness-aware minimization."""
