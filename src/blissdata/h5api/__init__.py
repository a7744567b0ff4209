"""HDF5 files by one reading interface, h5py's: finished, being written, or not yet there."""
