"""Codes that are trained for retrieval: the learning behind the kind `learned` (GenRet).

A network reads the vector of a text and the codes so far, and gives a state for the next code:

    s_t = x W + p_t + sum over i < t of P_i[z_i]        d_t = n(s_t) + W2 relu(W1 n(s_t))

(n is a layer norm without weights); or a T5 reads the text's tokens and the vectors of the codes so
far, and d_t is the state of its decoder (`seq2seq`). The probability of code k at position t is
softmax_k(<d_t, E_t[k]> / temperature), vectors of length 1. Positions are learned one after the
other (Sun et al., NeurIPS 2023, sections 3.3 and 3.4). Position t

1. warms up on the retrieval loss: among the documents of a batch, the state of a query is to be
   nearest to that of its document;
2. gets its codebook E_t by k-means over the states of all documents;
3. is trained on retrieval, on commitment (query and document both predict the document's code),
   on reconstruction (the code's vector is to be nearest to its document's state among those of
   the batch) and on the codes before it. Before each pass, documents are assigned anew: those
   with the same codes before t are spread evenly over the codes (Sinkhorn);
4. keeps the last assignment for good, unless its codebook has collapsed.

In the end all positions are fitted to their codes once more.
"""

from docids.code_learning.balance import balanced
from docids.code_learning.learner import Learner
from docids.code_learning.options import LearningOptions, Pairs

__all__ = ["Learner", "LearningOptions", "Pairs", "balanced"]
