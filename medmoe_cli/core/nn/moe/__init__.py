"""Routing, experts and balance losses shared by all methods."""
