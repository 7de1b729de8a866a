"""Datasets: index, conversion, checking, splits, fingerprint, planning, sampling."""
