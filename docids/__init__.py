"""Document identifiers: assigning code sequences, and the table and trie that hold them."""
