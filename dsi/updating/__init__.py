"""Updating an index: adding new documents, deleting documents, and retaining old ones."""
