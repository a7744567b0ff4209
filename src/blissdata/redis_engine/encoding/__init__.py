"""An old path: encodings are in `blissdata.streams.encoding`."""
