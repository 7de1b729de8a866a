"""Geometry, strict reading and writing, orientation, resampling. No torch."""
