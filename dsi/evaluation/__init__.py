"""Evaluating runs: measures, baselines, groups of queries, significance, the report."""
