"""The lexical layer: a sparse score of every document by the words that it shares with a query.

It is the document-level half of PAG (Zeng et al., SIGIR 2024, arXiv 2404.14600): weights of words
in documents that start at BM25's values and are trained, added to what the network scores.

`words` splits texts, `lexicon` counts words in a corpus, `features` describes the counts,
`weighting` makes weights of them, `training` learns the weighting from labelled queries, and
`layer` is the result that an index is searched with.
"""
