"""Growing an index: new documents in, deleted ones out, old ones kept."""
