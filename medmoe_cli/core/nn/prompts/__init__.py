"""Prompt simulation from masks, in 2D and 3D."""
