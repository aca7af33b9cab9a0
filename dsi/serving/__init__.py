"""An index behind HTTP: searches, documents, one page for people, and tools for agents."""
