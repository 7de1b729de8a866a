"""Runs and models on disk: found, loaded, exported, imported."""
