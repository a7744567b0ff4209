"""What the files on disk are read with: retries, handlers, the detectors' own files."""
