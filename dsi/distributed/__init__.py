"""Several processes: their ranks, and DeepSpeed."""
