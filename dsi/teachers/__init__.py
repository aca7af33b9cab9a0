"""Teachers: rankers that are asked once, before training, and imitated by terms of the loss."""

from dsi.teachers import bm25, cross_encoder, embeddings
from dsi.teachers.base import TEACHERS, Teacher

__all__ = ["TEACHERS", "Teacher", "bm25", "cross_encoder", "embeddings"]
