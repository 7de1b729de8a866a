"""Segmentation losses on valid pixels, one value per query, joined by the weights of a stage.

Shapes: Q queries, C channels, S any spatial axes. Targets are bool (Q, 1, *S) for the prompted task and integer
(Q, *S) for the automatic one; `valid` is bool (Q, *S), False on padding, which counts nowhere.
All losses are computed in float32 whatever the network's precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.base.suggest import did_you_mean
from medmoe_cli.core.nn.segmenter import Output, View

LOSS_NAMES = ("dice", "batch_dice", "focal", "bce", "choice", "cross_entropy", "score", "owner", "presence")
MASK_LOSSES = frozenset({"dice", "focal", "bce"})  # of one query each, on whatever grid
JOINT_LOSSES = frozenset({"batch_dice", "choice"})  # of binary answers that are judged together
GATE = "gate"  # the place in `Output.routing` whose choice the owner loss teaches
_SMOOTH = 1.0  # one pixel in numerator and denominator: an empty mask answered by an empty mask costs nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What the queries should have answered.

    Attributes:
        masks: bool (Q, 1, *S) for binary answers, or int64 (Q, *S) label map for answers of several channels.
        valid: bool (Q, *S).
        owners: int64 (Q,), which expert should answer, 0 the general model; None where nobody knows.
        images, classes: int64 (Q,), the image and the class that each query asks about; None where answers are not
            judged together.
        known: bool (Q, C - 1), the classes of a label map that were labelled; the others may be anywhere in its
            background. None where all were.
    """

    masks: Tensor
    valid: Tensor
    owners: Tensor | None = None
    known: Tensor | None = None
    images: Tensor | None = None
    classes: Tensor | None = None


def merge_unknown(logits: Tensor, known: Tensor) -> Tensor:
    """Answers in which classes that were not labelled count as background, (Q, C, *S).

    The background's logit becomes log(exp(background) + sum over unknown classes of exp(class)), so that the softmax
    gives it the probability of being either; the unknown classes' become -inf. Known classes keep their probability.

    Args:
        logits: (Q, C, *S), background first.
        known: bool (Q, C - 1).
    """
    shape = (*known.shape, *(1 for _ in logits.shape[2:]))
    unknown = ~torch.cat([torch.zeros_like(known[:, :1]), known], dim=1).reshape(shape[0], -1, *shape[2:])
    background = logits.float().masked_fill(~unknown, -torch.inf).logsumexp(dim=1, keepdim=True)
    classes = logits.float()[:, 1:].masked_fill(unknown[:, 1:], -torch.inf)
    return torch.cat([background, classes], dim=1)


def dice_loss(logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
    """Soft Dice of binary answers, (Q,): 1 - 2 sum(p y) / (sum p + sum y) (SegMoTE eq. 10), plus one pixel each.

    Args:
        logits: (Q, 1, *S).
        masks: bool (Q, 1, *S).
        valid: bool (Q, *S).
    """
    probabilities = logits.float().sigmoid() * valid.unsqueeze(1)
    truth = masks.float() * valid.unsqueeze(1)
    overlap = (probabilities * truth).flatten(1).sum(1)
    total = probabilities.flatten(1).sum(1) + truth.flatten(1).sum(1)
    return 1 - (2 * overlap + _SMOOTH) / (total + _SMOOTH)


def multi_class_dice_loss(
    logits: Tensor, labels: Tensor, valid: Tensor, *, known: Tensor | None = None, over_batch: bool = False
) -> Tensor:
    """Soft Dice over softmax channels, background included, (Q,): the mean over the C channels.

    Args:
        logits: (Q, C, *S).
        labels: int64 (Q, *S) in [0, C).
        valid: bool (Q, *S).
        known: bool (Q, C - 1), classes to count; None for all. Logits are then as `merge_unknown` makes them.
        over_batch: sums over all queries (the public code of MoE-SAM; nnU-Net's batch Dice). Image by image, a class
            that most images lack is pushed to nothing by all of them.
    """
    probabilities = logits.float().softmax(dim=1) * valid.unsqueeze(1)
    truth = F.one_hot(labels, logits.shape[1]).movedim(-1, 1).float() * valid.unsqueeze(1)
    overlap = (probabilities * truth).flatten(2).sum(2)
    total = probabilities.flatten(2).sum(2) + truth.flatten(2).sum(2)
    if over_batch:
        overlap, total = (sums.sum(0, keepdim=True).expand_as(sums) for sums in (overlap, total))
    losses = 1 - (2 * overlap + _SMOOTH) / (total + _SMOOTH)
    if known is None:
        return losses.mean(dim=1)
    counted = torch.cat([torch.ones_like(known[:, :1]), known], dim=1)
    if over_batch:
        counted = counted.any(0, keepdim=True).expand_as(counted)
    return (losses * counted).sum(dim=1) / counted.sum(dim=1)


def class_dice_loss(logits: Tensor, masks: Tensor, valid: Tensor, classes: Tensor) -> Tensor:
    """Soft Dice of binary answers over all queries of a class, (Q,): each query gets its class's.

    Query by query, a mask that should be empty is pushed to nothing by every pixel as hard as a small one is pulled by
    all of its own, and a class that most images lack is never answered. For the same reason a class that none of the
    images shows costs nothing here; that it is not there, cross-entropy or choice and presence say.

    Args:
        logits: (Q, 1, *S).
        masks: bool (Q, 1, *S).
        valid: bool (Q, *S).
        classes: int64 (Q,).
    """
    probabilities = logits.float().sigmoid() * valid.unsqueeze(1)
    truth = masks.float() * valid.unsqueeze(1)
    wanted = truth.flatten(1).sum(1)
    overlap = _summed((probabilities * truth).flatten(1).sum(1), classes)
    total = _summed(probabilities.flatten(1).sum(1) + wanted, classes)
    return (1 - (2 * overlap + _SMOOTH) / (total + _SMOOTH)) * (_summed(wanted, classes) > 0)


def choice_loss(logits: Tensor, masks: Tensor, valid: Tensor, images: Tensor) -> Tensor:
    """Cross-entropy of the choice among the names asked about an image and none of them, (Q,): each gets its image's.

    The logit of none is 0, so that a name's own sigmoid still tells it from none, and its mask does not depend on what
    else is asked. Where masks overlap, either is right.

    Args:
        logits: (Q, 1, *S).
        masks: bool (Q, 1, *S).
        valid: bool (Q, *S).
        images: int64 (Q,).
    """
    losses = []
    for image in images.unique().tolist():
        asked = images == image
        scores = F.pad(logits[asked, 0].float(), (0, 0) * (logits.ndim - 2) + (1, 0))  # nothing first
        right = torch.cat([~masks[asked, 0].any(0, keepdim=True), masks[asked, 0]])
        missed = scores.logsumexp(0) - scores.masked_fill(~right, -torch.inf).logsumexp(0)
        losses.append(_valid_mean(missed[None], valid[asked][:1]).expand(int(asked.sum())))
    return torch.cat(losses)[images.argsort(stable=True).argsort(stable=True)]


def bce_loss(logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
    """Binary cross-entropy, mean over valid pixels, (Q,)."""
    losses = F.binary_cross_entropy_with_logits(logits.float(), masks.float(), reduction="none")
    return _valid_mean(losses.squeeze(1), valid)


def focal_loss(logits: Tensor, masks: Tensor, valid: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss (Lin et al. 2017, eq. 5), mean over valid pixels, (Q,)."""
    logits, truth = logits.float(), masks.float()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    missing = 1 - torch.exp(-cross_entropy)  # 1 - p of the true side
    weight = alpha * truth + (1 - alpha) * (1 - truth)
    return _valid_mean((weight * missing**gamma * cross_entropy).squeeze(1), valid)


def cross_entropy_loss(logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """Cross-entropy over channels, mean over valid pixels, (Q,)."""
    return _valid_mean(F.cross_entropy(logits.float(), labels, reduction="none"), valid)


def score_loss(scores: Tensor, logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
    """Squared error of the predicted IoU against the answer's true IoU, (Q,)."""
    answered = (logits.detach() > 0) & valid.unsqueeze(1)
    truth = masks & valid.unsqueeze(1)
    both = (answered & truth).flatten(1).sum(1).float()
    either = (answered | truth).flatten(1).sum(1).float()
    true_iou = torch.where(either > 0, both / either.clamp(min=1), torch.ones_like(either))
    return (scores.float() - true_iou) ** 2


def owner_loss(output: Output, owners: Tensor | None) -> Tensor:
    """Cross-entropy of the gate's choice against who should answer, (Q,) (SAM-Med3D-MoE 2.4).

    Args:
        output: with the gate's logits (Q, m + 1) in `routing`.
        owners: int64 (Q,) in [0, m].

    Raises:
        ConfigError: the method has no gate, or has fewer experts than owners.
    """
    gate = output.routing.get(GATE)
    if gate is None or owners is None:
        raise ConfigError(
            "loss 'owner' does not apply", why="the answers come without a gate", fix="choose another loss"
        )
    if int(owners.max()) >= gate.logits.shape[-1]:
        raise ConfigError(
            "a sample of an expert that is not there",
            why=f"expert {int(owners.max())} owns it, the gate chooses among {gate.logits.shape[-1] - 1}",
            fix="give the samples the numbers of the model's own experts",
        )
    return F.cross_entropy(gate.logits.float(), owners, reduction="none")


def presence_loss(output: Output, masks: Tensor, valid: Tensor) -> Tensor:
    """Binary cross-entropy of the presence that is claimed against whether there is anything of the mask, (Q,).

    What is there and what is not weigh the same in a batch that has both: a structure that nearly every slice shows
    would else be claimed everywhere, and a presence of one half would not be where both errors are as likely.

    Raises:
        ConfigError: the method tells no presence.
    """
    if output.score_logits is None:
        raise ConfigError(
            "loss 'presence' does not apply", why="the answers come without presence", fix="choose another loss"
        )
    there = (masks & valid.unsqueeze(1)).flatten(1).any(1).float()
    losses = F.binary_cross_entropy_with_logits(output.score_logits.float(), there, reduction="none")
    share = there.mean()
    if not 0 < share < 1:
        return losses
    return losses * torch.where(there > 0, 0.5 / share, 0.5 / (1 - share))


def combine(output: Output, target: Target, weights: Mapping[str, float]) -> dict[str, Tensor]:
    """The weighted losses of one answer by name, each a scalar (mean over queries); 'aux_*' are the method's own.

    Their sum is the loss. A method that predicts no score has no score loss. Where an output has views, mask losses are
    those of the views, each on its own grid, added up.

    Raises:
        ConfigError: an unknown loss name.
    """
    masks, valid, logits, known = target.masks, target.valid, output.logits, target.known
    multi_class = masks.ndim == logits.ndim - 1
    if known is not None and multi_class:
        logits = merge_unknown(logits, known)
    parts: dict[str, Tensor] = {}
    for name, weight in sorted(weights.items()):  # in one order, however the weights were written: sums depend on it
        if name == "score" and output.scores is None:
            continue
        if name == "owner":
            losses = [owner_loss(output, target.owners)]
        elif name == "presence":
            losses = [presence_loss(output, masks, valid)]
        elif name in JOINT_LOSSES and not multi_class:
            losses = [_joint(name, logits, target)]
        elif name in MASK_LOSSES and output.views:
            losses = [_of_view(name, view, target) for view in output.views]
        else:
            losses = [_one(name, logits, output.scores, masks, valid, multi_class=multi_class, known=known)]
        parts[name] = weight * torch.stack(losses).sum(dim=0).mean()
    for name, loss in output.aux_losses.items():
        parts[f"aux_{name}"] = loss.float()
    return parts


def check_names(weights: Mapping[str, float]) -> None:
    """Refuse a stage whose losses the engine does not know.

    Raises:
        ConfigError: with the nearest name.
    """
    for name in weights:
        if name not in LOSS_NAMES:
            raise ConfigError(f"unknown loss '{name}'", why=did_you_mean(name, LOSS_NAMES), fix="correct the losses")
    if not weights:
        raise ConfigError("no loss", why="the stage names none", fix=f"choose from {', '.join(LOSS_NAMES)}")


def _joint(name: str, logits: Tensor, target: Target) -> Tensor:
    if target.images is None or target.classes is None:
        raise ConfigError(f"loss '{name}' does not apply", why="answers are judged alone", fix="choose another loss")
    if name == "choice":
        return choice_loss(logits, target.masks, target.valid, target.images)
    return class_dice_loss(logits, target.masks, target.valid, target.classes)


def _of_view(name: str, view: View, target: Target) -> Tensor:
    """A mask loss on a view's own grid, (Q,), weighted; the reference there is the share of each cell it covers."""
    size = view.logits.shape[-2:]
    masks, valid = target.masks.float(), target.valid[:, None].float()
    if view.regions is None:
        masks, valid = (F.interpolate(maps, size=size, mode="area") for maps in (masks, valid))
    else:
        grid = _region_grid(view.regions, size, target.masks.shape[-2:])
        masks, valid = (F.grid_sample(maps, grid, align_corners=False) for maps in (masks, valid))
    return view.weights * _one(name, view.logits, None, masks, valid[:, 0] > 0.5, multi_class=False)


def _region_grid(regions_Q4: Tensor, size: torch.Size, input_size: torch.Size) -> Tensor:
    """(Q, h, w, 2) coordinates of the cells' centres as `grid_sample` takes them."""
    rows, cols = ((torch.arange(n, device=regions_Q4.device) + 0.5) / n for n in size)
    x = regions_Q4[:, 0, None] + (regions_Q4[:, 2] - regions_Q4[:, 0])[:, None] * cols
    y = regions_Q4[:, 1, None] + (regions_Q4[:, 3] - regions_Q4[:, 1])[:, None] * rows
    x, y = x * (2 / input_size[1]) - 1, y * (2 / input_size[0]) - 1
    return torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=-1)


def _one(
    name: str,
    logits: Tensor,
    scores: Tensor | None,
    masks: Tensor,
    valid: Tensor,
    *,
    multi_class: bool,
    known: Tensor | None = None,
) -> Tensor:
    if name == "dice" and not multi_class:
        return dice_loss(logits, masks, valid)
    if name in {"dice", "batch_dice"} and multi_class:
        return multi_class_dice_loss(logits, masks, valid, known=known, over_batch=name == "batch_dice")
    if name == "cross_entropy" and multi_class:
        return cross_entropy_loss(logits, masks, valid)
    if not multi_class:
        if name == "focal":
            return focal_loss(logits, masks, valid)
        if name in {"bce", "cross_entropy"}:
            return bce_loss(logits, masks, valid)
        if name == "score":
            assert scores is not None
            return score_loss(scores, logits, masks, valid)
    task = "label maps" if multi_class else "binary masks"
    raise ConfigError(f"loss '{name}' does not apply", why=f"the answers are {task}", fix="choose another loss")


def _summed(values_Q: Tensor, groups_Q: Tensor) -> Tensor:
    """Each query's value replaced by the sum over its group, (Q,)."""
    _, row_Q = groups_Q.unique(return_inverse=True)
    sums = values_Q.new_zeros(int(row_Q.max()) + 1).index_add(0, row_Q, values_Q)
    return sums[row_Q]


def _valid_mean(losses: Tensor, valid: Tensor) -> Tensor:
    weight = valid.float()
    return (losses * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp(min=1)
