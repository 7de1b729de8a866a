"""Shared network blocks and the Segmenter interface."""
