"""Continual-indexing experiments on a growing corpus, D0 to Dn: protocol, measures, report."""
