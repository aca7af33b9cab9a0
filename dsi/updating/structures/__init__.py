"""What an update puts beside the weights: low-rank adapters, side memories."""
