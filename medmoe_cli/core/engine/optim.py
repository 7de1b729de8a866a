"""What trains and how: freezing by stage, the optimizer and its tensors by name, averaged weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from medmoe_cli.core.base.errors import CheckpointError, ConfigError
from medmoe_cli.core.base.suggest import did_you_mean
from medmoe_cli.core.config.sections import TrainConfig
from medmoe_cli.core.nn.segmenter import Segmenter, Stage

_RAW = "raw"


def apply_stage(segmenter: Segmenter, stage: Stage) -> dict[str, nn.Parameter]:
    """Let the stage's parameters train and freeze the rest; the trainable ones by name.

    Modules whose parameters are all frozen go to evaluation mode (no dropout, no running statistics), the others to
    training mode.

    Raises:
        ConfigError: the stage's prefixes name no parameter.
    """
    trainable: dict[str, nn.Parameter] = {}
    for name, parameter in segmenter.named_parameters():
        parameter.requires_grad_(name.startswith(tuple(stage.trainable)))
        parameter.grad = None
        if parameter.requires_grad:
            trainable[name] = parameter
    if not trainable:
        names = {name.rpartition(".")[0] for name, _ in segmenter.named_parameters()}
        raise ConfigError(
            "nothing to train",
            where=f"stage {stage.name}",
            why=f"no parameter is called {' or '.join(stage.trainable)}: {did_you_mean(stage.trainable[0], names)}",
            fix="correct the stage's list of trainable parameters",
        )
    set_modes(segmenter)
    return trainable


def set_modes(module: nn.Module) -> None:
    """Training mode, but evaluation mode for every part that is wholly frozen."""
    module.train()
    for part in module.modules():
        parameters = list(part.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            part.eval()


def build_optimizer(
    config: TrainConfig, parameters: Mapping[str, nn.Parameter], *, learning_rate: float, scaled: bool = False
) -> torch.optim.Optimizer:
    """The optimizer; vectors (biases, norms, scales) are not decayed.

    Args:
        config: the training section.
        parameters: what trains.
        learning_rate: of the first step.
        scaled: a gradient scaler is used, which fused optimizers would undo themselves.
    """
    decayed = [parameter for parameter in parameters.values() if parameter.ndim > 1]
    others = [parameter for parameter in parameters.values() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=learning_rate, momentum=config.betas[0], nesterov=config.betas[0] > 0)
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    # Fused on the CPU takes a quarter of the time; elsewhere its counters would have to live on the device.
    fused = not scaled and all(parameter.device.type == "cpu" for parameter in parameters.values())
    return kind(groups, lr=learning_rate, betas=config.betas, fused=fused or None)


def optimizer_tensors(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The optimizer's state as 'NAME/KEY' tensors."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{name}/{key}"] = value.detach()
    return tensors


def load_optimizer(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """Put back what `optimizer_tensors` took.

    Raises:
        CheckpointError: tensors of unknown parameters, or of another shape.
    """
    for full_name, tensor in tensors.items():
        name, _, key = full_name.rpartition("/")
        parameter = parameters.get(name)
        if parameter is None or (tensor.ndim and tensor.shape != parameter.shape):
            raise CheckpointError(
                "optimizer state does not fit the model", where=full_name, fix="resume with the settings of the run"
            )
        # Counters stay on the CPU, as the optimizers make them.
        moved = tensor.clone() if not tensor.ndim else tensor.to(parameter.device, copy=True)
        optimizer.state[parameter][key] = moved


class Average:
    """An exponential moving average of the training weights (Polyak), warmed up so that the start does not linger.

    The decay at update t is min(decay, (1 + t) / (10 + t)).
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self._parameters = dict(parameters)
        self.shadow = {name: parameter.detach().clone() for name, parameter in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after update number `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in self._parameters.items():
            self.shadow[name].lerp_(parameter.detach(), 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the training weights with their average; a second call undoes it."""
        for name, parameter in self._parameters.items():
            kept = parameter.detach().clone()
            parameter.copy_(self.shadow[name])
            self.shadow[name].copy_(kept)

    def raw_tensors(self) -> dict[str, Tensor]:
        """The training weights, for the optimizer file; the model file holds the average."""
        return {f"{_RAW}/{name}": parameter.detach() for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def load(self, model: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
        """Put back the average (from the model file) and the training weights (from the optimizer file).

        Raises:
            CheckpointError: the checkpoint was made without averaging.
        """
        for name, parameter in self._parameters.items():
            raw = tensors.get(f"{_RAW}/{name}")
            if raw is None:
                raise CheckpointError(
                    "no training weights in the checkpoint",
                    where=name,
                    why="it was made without train.ema",
                    fix="resume with the settings of the run",
                )
            self.shadow[name].copy_(model[name])
            parameter.copy_(raw)


def split_raw(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """An optimizer file's tensors: the optimizer's own, and the training weights kept beside an average."""
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(f"{_RAW}/")}
    raw = {name: tensor for name, tensor in tensors.items() if name.startswith(f"{_RAW}/")}
    return own, raw
