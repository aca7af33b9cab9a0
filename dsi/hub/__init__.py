"""Indexes and datasets on the Hugging Face Hub: `dsi push`, `dsi pull`, `hf://user/name`."""
