"""An index for other engines: what `dsi export` writes, and the constraint over it."""

from dsi.export import hf, static, vllm_gr
from dsi.export.base import FORMATS, export_index
from dsi.export.constraint import Exported

__all__ = ["FORMATS", "Exported", "export_index", "hf", "static", "vllm_gr"]
