"""The data mix of an update: new documents and rehearsal of old ones."""
