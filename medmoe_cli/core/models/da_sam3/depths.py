"""Which layers of the fusion encoder get experts; free of torch."""

from __future__ import annotations

_SHARES = (6, 4, 2)  # the paper's depths are L/6, L/4, L/2


def moe_depths(num_layers: int, *, chosen: tuple[int, ...] | None = None) -> tuple[int, ...]:
    """Indices, from 0, of the layers at depths L/6, L/4 and L/2 (paper section 2.2).

    A depth d is the d-th layer. Halves are rounded up, and a depth that is taken moves on to the next: there are three
    stages of reasoning, so there are three layers. (Rounding down, as the public code does, leaves two of L = 6.)

    Args:
        num_layers: L.
        chosen: layers that replace these.

    Raises:
        ValueError: L is too small for three layers, or a chosen layer does not exist.
    """
    if chosen is not None:
        missing = [layer for layer in chosen if not 0 <= layer < num_layers]
        if missing:
            raise ValueError(f"moe_layers: layer {missing[0]} of {num_layers}, counted from 0")
        return tuple(sorted(chosen))
    depths: list[int] = []
    for share in _SHARES:
        rounded = (2 * num_layers + share) // (2 * share)
        depths.append(max(rounded, depths[-1] + 1 if depths else 1))
    if depths[-1] > num_layers:
        raise ValueError(f"{num_layers} fusion layers are too few for three with experts; name them in moe_layers")
    return tuple(depth - 1 for depth in depths)


def explain_depths(num_layers: int, *, chosen: tuple[int, ...] | None = None) -> str:
    """One line that says which layers and why."""
    layers = moe_depths(num_layers, chosen=chosen)
    named = ", ".join(str(layer + 1) for layer in layers)
    if chosen is not None:
        return f"layers {named} of the {num_layers} fusion layers: model.moe_layers"
    exact = ", ".join(f"{num_layers / share:g}" for share in _SHARES)
    return (
        f"layers {named} of the {num_layers} fusion layers: depths L/6, L/4 and L/2 are {exact}, halves rounded up and "
        "kept apart, for three distinct layers"
    )
