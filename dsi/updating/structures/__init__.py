"""Modules that an update adds to the network: low-rank adapters, side memories."""
