"""Images of detectors that a Lima server drives: decoding, files, and the detector's own buffer.

Tango, fabio and OpenCV are optional, and are imported in here alone, where they are used.
"""
