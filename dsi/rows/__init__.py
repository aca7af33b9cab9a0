"""Initialization of docid rows, for training and updates: chosen by name, one file each."""

from data_prep.registry import import_entries
from dsi.rows.base import WARM_STARTS, WarmStart
from dsi.rows.corpus import Codebooks, Corpus
from dsi.rows.new_documents import NewDocuments

import_entries(__name__, __path__)

__all__ = ["WARM_STARTS", "Codebooks", "Corpus", "NewDocuments", "WarmStart"]
