"""Cross-encoders, which score a query and a document that are read together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from data_prep.remote_code import checked_config, import_sentence_transformers

BATCH = 32


class CrossEncoder:
    """A cross-encoder of sentence-transformers, such as cross-encoder/ms-marco-MiniLM-L6-v2.

    The score is its only logit, or the last one where it has several.

    Args:
        name: A hub id, or the path of a folder.
        where: The option that names it, for errors.

    Raises:
        InputError: The package sentence-transformers is missing, or the model cannot be loaded.
    """

    def __init__(self, name: str, where: str) -> None:
        self._name, self._where = name, where
        package = import_sentence_transformers(f"the cross-encoder {name!r}", where)
        try:
            checked_config(name)
            self._model = package.CrossEncoder(
                name, trust_remote_code=False, model_kwargs={"use_safetensors": True}
            )
        except (InputError, MemoryError):
            raise
        except Exception as error:  # readers of foreign files may raise anything
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise InputError(
                f"cannot load the cross-encoder {name!r} ({reason})",
                where=where,
                hint="Give a hub id that this machine can reach, or the folder of a "
                "downloaded model",
            ) from None

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns the score of each of one or more pairs of query and document; float32 [pairs].

        Raises:
            InputError: A score is not finite.
        """
        from torch.nn import Identity

        logits = self._model.predict(
            list(zip(queries, documents, strict=True)),
            batch_size=BATCH,
            activation_fn=Identity(),
            show_progress_bar=False,
        )
        scores = np.asarray(logits, np.float32).reshape(len(queries), -1)[:, -1]
        if not np.isfinite(scores).all():
            raise InputError(
                f"the cross-encoder {self._name!r} gives scores that are not finite",
                where=self._where,
                hint="Download the model again",
            )
        return scores
