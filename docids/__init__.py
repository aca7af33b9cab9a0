"""Identifiers: how a document gets its code sequence, the table of them, the trie over them."""
