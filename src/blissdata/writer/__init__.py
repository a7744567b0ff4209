"""Scans into files: what the live file shows is put on disk, while it is published.

plan            what the layout asks for                                  (pure)
images          where images are that a detector saved                    (pure)
committed_file  a file that is at every instant what its last commit made of it
nexus           the calls of h5py
files           one object for each file, shared by its scans
follower        one scan
report          what a writer says of itself
service         every scan of a server
saved           which points are in a written file, for who asks where they are
"""

from __future__ import annotations

__all__: list[str] = []
