"""The main job on a real measurement: published, followed live, read again, every number compared.

The measurement is the X-ray absorption of copper (EXAFS_Cu.dat, from PyMca; its licence is beside
it).
"""
