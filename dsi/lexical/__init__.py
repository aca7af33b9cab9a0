"""The lexical layer: a sparse score of every document by the words it shares with a query.

It is the document-level half of PAG (Zeng et al., SIGIR 2024, arXiv 2404.14600): weights of words
in documents, initialized to BM25 and trained, added to the scores of the network.

`words` splits texts, `lexicon` counts words in a corpus, `features` describes the counts,
`weighting` turns them into weights, `training` learns the weighting from labeled queries, and
`layer` is the result that an index searches with.
"""
