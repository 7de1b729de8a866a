"""DA-SAM3's low-rank experts against the plain feed-forward network: time, and peak memory by number of experts.

    python benchmarks/da_sam3_layer.py [--tokens 5184] [--repeats 7] [--train] [--device cpu]

Time: plain network, low-rank experts (as the layer runs them) and materialised experts (W0 + A B of each expert built
and applied, as the public code does it) run one after the other in every repeat; printed is the fastest of each in CPU
seconds (GPU: seconds) and its ratio to the plain network's. Memory: what a forward pass (with --train also the
backward) has allocated at its peak, counted allocation by allocation. Top-2 of E, rank 8; one expert is top-1.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medmoe_cli.core.nn.moe import LowRankExperts, Routing, choose_experts

WIDTH, HIDDEN, RANK = 256, 2048, 8


class Setting:
    """A network, its experts, tokens and their routing, the same at every call."""

    def __init__(self, *, tokens: int, num_experts: int, device: str) -> None:
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(WIDTH, HIDDEN).to(device), nn.Linear(HIDDEN, WIDTH).to(device)
        self.experts = LowRankExperts(num_experts, width=WIDTH, hidden=HIDDEN, rank=RANK).to(device)
        with torch.no_grad():
            for factor in (self.experts.b_in, self.experts.b_out):
                factor.normal_(std=0.05)
        self.first.requires_grad_(False)
        self.second.requires_grad_(False)
        self.items = torch.randn(tokens, WIDTH, device=device, requires_grad=True)
        scores = torch.randn(tokens, num_experts, device=device)
        self.routing: Routing = choose_experts(scores, num_active=min(2, num_experts))

    def plain(self) -> Tensor:
        answer: Tensor = self.second(F.relu(self.first(self.items)))
        return answer

    def low_rank(self) -> Tensor:
        answer: Tensor = self.experts(self.items, self.routing, first=self.first, activation=F.relu, second=self.second)
        return answer

    def materialised(self) -> Tensor:
        total = torch.zeros_like(self.items)
        for expert in range(self.experts.num_experts):
            rows, slots = (self.routing.indices == expert).nonzero(as_tuple=True)
            weight_in = self.first.weight + (self.experts.a_in[expert] @ self.experts.b_in[expert]).T
            weight_out = self.second.weight + (self.experts.a_out[expert] @ self.experts.b_out[expert]).T
            hidden = F.relu(F.linear(self.items[rows], weight_in, self.first.bias))
            answer = F.linear(hidden, weight_out, self.second.bias)
            total = total.index_add(0, rows, self.routing.gates[rows, slots, None] * answer)
        return total


def seconds(run: Callable[[], Tensor], *, train: bool, device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    clock = time.process_time if device == "cpu" else time.perf_counter
    began = clock()
    with torch.set_grad_enabled(train):
        answer = run()
        if train:
            answer.square().sum().backward()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - began


def compare(*, tokens: int, num_experts: int, repeats: int, train: bool, device: str) -> None:
    setting = Setting(tokens=tokens, num_experts=num_experts, device=device)
    with torch.no_grad():
        difference = float((setting.low_rank() - setting.materialised()).abs().max())
    ways = {"plain": setting.plain, "low-rank": setting.low_rank, "materialised": setting.materialised}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, run in ways.items():
            found[name].append(seconds(run, train=train, device=device))
    what = "forward and backward" if train else "forward"
    plain = min(found["plain"])
    print(f"{what}, {tokens} tokens x {WIDTH}, ff {HIDDEN}, {num_experts} experts, rank {RANK}, {device}:")
    for name, times in found.items():
        print(f"  {name:13s} {min(times):7.4f} s   {min(times) / plain:5.2f} x plain")
    print(f"  low-rank and materialised differ by at most {difference:.1e}")


def peak_mb(*, tokens: int, num_experts: int, way: str, train: bool, device: str) -> float:
    """What one pass allocates at its peak beyond what was there before it."""
    setting = Setting(tokens=tokens, num_experts=num_experts, device=device)
    run = getattr(setting, way)
    with torch.profiler.profile(profile_memory=True) as profile:
        seconds(run, train=train, device=device)
    assert profile.profiler is not None
    assert profile.profiler.kineto_results is not None
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda one: one.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=5184)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--train", action="store_true", help="the backward pass, too")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for experts in (4, 8):
        compare(tokens=given.tokens, num_experts=experts, repeats=given.repeats, train=given.train, device=given.device)
    print("peak memory of one pass:")
    for way, experts in [("plain", 1), *(("low_rank", count) for count in (1, 2, 4, 8)), ("materialised", 8)]:
        peak = peak_mb(tokens=given.tokens, num_experts=experts, way=way, train=given.train, device=given.device)
        print(f"  {way:13s} {experts} experts: {peak:6.1f} MB")


if __name__ == "__main__":
    main()
