"""Overlap and surface metrics, empty-mask policy, aggregation. No torch."""
