"""What rows of identifiers start from: chosen by name, one file each, for trainings and updates."""

from data_prep.registry import import_entries
from dsi.rows.base import WARM_STARTS, WarmStart
from dsi.rows.corpus import Codebooks, Corpus
from dsi.rows.new_documents import NewDocuments

import_entries(__name__, __path__)

__all__ = ["WARM_STARTS", "Codebooks", "Corpus", "NewDocuments", "WarmStart"]
