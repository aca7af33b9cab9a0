"""Experiments on a corpus that grows, D0 to Dn: protocol, measures, report."""
