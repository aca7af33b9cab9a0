"""Evaluation of runs: measures, baselines, query groups, significance tests, reports."""
