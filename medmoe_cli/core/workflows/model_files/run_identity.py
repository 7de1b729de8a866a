"""What a resume must find unchanged: every value that results depend on, and the data."""

from __future__ import annotations

import json

from medmoe_cli.core.base.hashing import value_sha256
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.presets import Resolved
from medmoe_cli.core.data.splits import Split

_SECTIONS = ("model", "train", "augment", "plan")
_SHORT = 16


def run_identity(
    resolved: Resolved, plan: Plan, *, precision: str, num_devices: int, inputs: str, cases: Split
) -> dict[str, str]:
    """'key' to value, as a checkpoint keeps it and a refusal lists it.

    Args:
        resolved: the run's configuration; inference values may change.
        plan: the run's plan, whose reasons may change.
        precision: as resolved: 'auto' and what it stands for are the same run.
        num_devices: processes that train together; the order of samples depends on it.
        inputs: hash of the preprocessed cases.
        cases: the fold.
    """
    identity = {"method": plan.method, "run.precision": precision, "run.devices": str(num_devices)}
    for section in _SECTIONS:
        values = getattr(resolved, section).model_dump(mode="json")
        identity |= {f"{section}.{key}": json.dumps(value, sort_keys=True) for key, value in values.items()}
    del identity["train.precision"]
    apart = {"reasons"}
    if not plan.members:  # what is about collections alone is not part of any other run
        apart |= {"members", "shown"}
        del identity["train.balance"], identity["plan.member_channels"]
    identity["plan"] = value_sha256(plan.model_dump(mode="json", exclude=apart))[:_SHORT]
    identity["data.fingerprint"] = plan.fingerprint_sha256[:_SHORT]
    identity["data.inputs"] = inputs[:_SHORT]
    identity["data.training cases"] = value_sha256(cases.train)[:_SHORT]
    identity["data.validation cases"] = value_sha256(cases.validation)[:_SHORT]
    return identity
