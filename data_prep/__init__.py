"""Datasets: sources, splits and pseudo-queries; everything that precedes document identifiers."""
