"""Text: everything that happens before a document identifier exists."""
