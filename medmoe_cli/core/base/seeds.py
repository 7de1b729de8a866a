"""Seeds that depend on what is drawn, never on who draws it.

A sample's seed is a hash of (run seed, epoch, case, draw), so the number of workers and an interruption change
nothing.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from the parts' values."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(*parts: int | str) -> np.random.Generator:
    """A numpy generator seeded from the parts."""
    return np.random.default_rng(derive_seed(*parts))
