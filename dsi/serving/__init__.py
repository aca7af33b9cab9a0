"""An HTTP server for an index: search, documents, a web page, and tools for agents."""
