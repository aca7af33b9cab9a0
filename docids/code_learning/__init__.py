"""Learns codes that are trained for retrieval; the kind `learned` (GenRet) is built on it.

A network reads the vector of a text and the codes so far, and returns a state for the next code:

    s_t = x W + p_t + sum over i < t of P_i[z_i]        d_t = n(s_t) + W2 relu(W1 n(s_t))

(n is a layer norm without weights); or a T5 reads the text's tokens and the vectors of the codes so
far, and d_t is the state of its decoder (`seq2seq`). The probability of code k at position t is
softmax_k(<d_t, E_t[k]> / temperature), on unit vectors. Positions are learned one after another
(Sun et al., NeurIPS 2023, sections 3.3 and 3.4). Position t

1. warms up on the retrieval loss: among the documents of a batch, the state of a query must be
   nearest to that of its document;
2. initializes its codebook E_t by k-means over the states of all documents;
3. is trained on retrieval, on commitment (query and document both predict the document's code), on
   reconstruction (the code's vector must be nearest to its document's state among those of the
   batch) and on the codes before it. Before each pass, documents are reassigned: those with the
   same codes before t are spread evenly over the codes (Sinkhorn);
4. freezes the last assignment, unless its codebook has collapsed.

At the end, all positions are trained on their frozen codes once more.
"""

from docids.code_learning.balance import balanced
from docids.code_learning.learner import Learner
from docids.code_learning.options import LearningOptions, Pairs

__all__ = ["Learner", "LearningOptions", "Pairs", "balanced"]
