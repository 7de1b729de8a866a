"""What two decoders' masks become when an expert joins (paper 2.3; ablations of table 2).

The paper's 'masks' M are undefined: logits fit a Dice and cross-entropy loss, probabilities are the other reading.
Shapes: Q queries, *S any spatial axes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

_SURE = 1e-6  # probabilities are kept this far from 0 and 1 on their way back to logits


def fuse_masks(
    general_Q1S: Tensor,
    specific_Q1S: Tensor,
    share_Q: Tensor,
    *,
    fuse: Literal["logits", "probabilities"],
    fusion: Literal["weighted", "average", "softmax"],
) -> Tensor:
    """Logits of the fused masks, (Q, 1, *S).

    Args:
        general_Q1S: the general decoder's logits.
        specific_Q1S: the best expert's logits.
        share_Q: s_top, its probability by the gate.
        fuse: fuse logits, or probabilities.
        fusion: 'weighted': (1 - s) M_g + s M_top; 'average': half of each; 'softmax': weights are the softmax over
            the two masks at each voxel ('after-softmax weighting', which the paper shows to fail).
    """
    general, specific = general_Q1S.float(), specific_Q1S.float()
    if fuse == "probabilities":
        general, specific = general.sigmoid(), specific.sigmoid()
    if fusion == "weighted":
        share = share_Q.float().reshape(-1, *[1] * (general.ndim - 1))
        fused = (1 - share) * general + share * specific
    elif fusion == "average":
        fused = (general + specific) / 2
    else:
        weights = torch.stack([general, specific]).softmax(0)
        fused = weights[0] * general + weights[1] * specific
    return torch.logit(fused, eps=_SURE) if fuse == "probabilities" else fused
