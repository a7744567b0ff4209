"""Everything that knows the server: keys, documents, backends, scans, the store."""
