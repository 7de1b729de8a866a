"""Typed configuration: plan, fingerprint, presets, overrides, provenance. No torch."""
