"""A task that every training configuration must learn, and the configurations of test_learning.py.

A small network with random weights memorizes forty labeled queries, each with two words that are
unique to its document. In full precision it learns them in a dozen steps, so the outcome is known:
the loss is near 0, every query is answered, and every trainable weight has changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import small
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from data_prep.dataset import Dataset
from dsi import Index
from dsi.backbones import backbone
from dsi.data.options import MixOptions
from dsi.index_folder import versions
from dsi.indexing import build
from dsi.lexical.options import LexicalOptions
from dsi.objectives.options import (
    CrossEntropyOptions,
    DistillationOptions,
    ObjectiveOptions,
    PrefixMarginOptions,
    RankOptions,
    RDropOptions,
)
from dsi.training.curves import read_scalars
from dsi.training.options import LoraOptions, ModelOptions, OptimizerOptions, SamOptions

CONFIGS = Path(__file__).parents[3] / "configs" / "deepspeed"
PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "linear", "matmul", "mkldnn_linear"}


@dataclass(frozen=True)
class Way:
    """One way of training.

    Attributes:
        name: Of the cell.
        changes: Training options that differ, as `small.options` takes them.
        quick: Whether it is tried in two processes in every test run, not in the full one only.
        alone: Whether it is for one process without DeepSpeed.
        variant: Whether it is close to another way, and tried in the full test run only.
        steps: How many it takes.
        pretrained: A kind of checkpoint (`small.checkpoint`) to start from, in place of T5.
    """

    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    quick: bool = False
    alone: bool = False
    variant: bool = False
    steps: int = 24
    pretrained: str | None = None

    def has_gradient(self, name: str) -> bool:
        """Whether a weight has one: attention over a single code has nothing to choose from."""
        chooses = ("SelfAttention.q", "SelfAttention.k", "SelfAttention.relative_attention_bias")
        single = self.changes.get("docids") == "atomic" and name.startswith("decoder.")
        return not (single and any(part in name for part in chooses))


def objectives(**terms: Any) -> ObjectiveOptions:
    return ObjectiveOptions(**terms)


WAYS = [
    Way("plain", quick=True),
    Way("one-code", {"docids": "atomic"}),
    Way("accumulation", {"loop__accumulation": 3}),
    Way("budget-of-tokens", {"loop__batch": None, "loop__tokens": 240}, variant=True),
    # Only attention is grouped in T5; other networks process each group in a separate pass.
    Way("length-buckets", {"loop__length_buckets": 3}, steps=48, pretrained="bart"),
    Way("padded", {"loop__length_buckets": 1}, variant=True),
    Way("checkpointing", {"loop__gradient_checkpointing": True}),
    Way("sam", {"sam": SamOptions(rho=0.05)}, quick=True),
    Way("sam-adaptive", {"sam": SamOptions(rho=0.15, adaptive=True)}, variant=True),
    Way("sam-every-second-step", {"sam": SamOptions(rho=0.05, every=2)}, variant=True),
    Way("sam-half-a-batch", {"sam": SamOptions(rho=0.05, fraction=0.5)}),
    Way("sam-rows", {"sam": SamOptions(rho=0.05, weights="rows")}, variant=True),
    Way("sam-accumulation", {"sam": SamOptions(rho=0.05), "loop__accumulation": 2}, variant=True),
    Way("dropout", {"model__dropout": 0.1}),
    Way("lora", {"lora": LoraOptions(rank=8), "optimizer__lr": 4e-3}),
    Way(
        "lora-sam",
        {"lora": LoraOptions(rank=8), "sam": SamOptions(rho=0.05), "optimizer__lr": 4e-3},
        variant=True,
    ),
    Way(
        "r-drop",
        {"model__dropout": 0.1, "objectives": objectives(r_drop=RDropOptions(weight=0.15))},
    ),
    Way(
        "prefix-margin",
        {"objectives": objectives(prefix_margin=PrefixMarginOptions(weight=0.005))},
    ),
    Way("rank-margin", {"objectives": objectives(rank=RankOptions(weight=1.0))}),
    Way(
        "rank-listmle",
        {"objectives": objectives(rank=RankOptions(weight=0.2, form="listmle"))},
        variant=True,
    ),
    Way("distillation", {"objectives": objectives(distillation=DistillationOptions(weight=0.1))}),
    Way(
        "distillation-of-one-code",
        {
            "docids": "atomic",
            "objectives": objectives(
                cross_entropy=CrossEntropyOptions(weight=1.0),
                distillation=DistillationOptions(weight=0.1),
            ),
        },
        variant=True,
    ),
    Way("constrained-score", {"loop__score": "constrained"}, variant=True),
    Way("indexing-beside", {"mix": MixOptions(indexing=0.5, pseudo=0, labeled=0.5)}, variant=True),
    Way("adafactor", {"optimizer__name": "adafactor", "optimizer__lr": 1e-2}, alone=True),
    Way("touched-rows", {"optimizer__rows": "touched"}, alone=True),
    Way(
        "prefix-aware-head",
        {"model__head": "pawa", "model__head_layers": 1, "optimizer__lr": 4e-4},
        steps=36,
    ),
]


@contextmanager
def small_network() -> Iterator[None]:
    """Makes the size `tiny` half as wide, so that each step takes a third of the time."""
    real = backbone.SIZES["tiny"]
    backbone.SIZES["tiny"] = backbone.Size(128, 2, 2, 2, 256)
    try:
        yield
    finally:
        backbone.SIZES["tiny"] = real


def train_small_network(*words: Any) -> None:
    """Does what `small.train` does, with that network: a new process knows the real sizes."""
    with small_network():
        small.train(*words)


ENGINES = ["ddp", "zero1", "zero2", "zero3"]


class Cell(NamedTuple):
    way: Way
    precision: str
    engine: str = "alone"

    @property
    def name(self) -> str:
        return f"{self.way.name}-{self.precision}-{self.engine}"

    @property
    def quick(self) -> bool:
        """Whether it is tried in every test run: DDP and ZeRO 2, and ZeRO 3 without SAM."""
        without_sam = self.way.name == "plain"
        return self.way.quick and (
            self.engine in ("ddp", "zero2") or (self.engine == "zero3" and without_sam)
        )


ALONE = [Cell(way, precision) for way in WAYS for precision in ("fp32", "bf16")]
TOGETHER = [
    Cell(way, precision, engine)
    for engine in ENGINES  # DDP first: DeepSpeed's settings persist in a process
    for way in WAYS
    for precision in ("fp32", "bf16")
    if not way.alone
    # ZeRO 3 shards the rows that this head reads; LoRA's base weights need no separate engine.
    if not (engine == "zero3" and way.name == "prefix-aware-head")
]


class Learned(NamedTuple):
    """What a cell ended with.

    Attributes:
        losses: Of each step.
        answered: Share of the training queries whose document comes first.
        still: Names of trainable weights that are as they were.
    """

    losses: list[float]
    answered: float
    still: list[str]


def options(way: Way, precision: str, folder: Path, dataset: Dataset) -> Any:
    """Returns the training options of a way; a checkpoint that it starts from is made first."""
    changes = {
        "docids": "semantic",
        "generator": "none",
        "lexical": LexicalOptions(enabled=False),
        "model": ModelOptions(size="tiny", warm_start="none"),
        "mix": MixOptions(indexing=0, pseudo=0, labeled=1, negatives="all"),
        "optimizer": OptimizerOptions(lr=2e-3, backbone_lr_scale=1.0, warmup=2),
        "loop__steps": way.steps,
        "loop__batch": 40,
        "loop__precision": precision,
        "loop__evaluate_every": way.steps,
        "loop__checkpoint_every": way.steps,
    }
    if way.pretrained is not None:
        path = folder / way.pretrained
        if not path.is_dir():
            small.checkpoint(way.pretrained, path, dataset)
        changes["model"] = ModelOptions(pretrained=str(path), warm_start="none")
        changes["optimizer"] = OptimizerOptions(lr=1e-2, backbone_lr_scale=1.0, warmup=2)
    groups = {name: value for name, value in changes.items() if "__" not in name}
    single = {name: value for name, value in changes.items() if "__" in name}
    for name, value in way.changes.items():
        (single if "__" in name else groups)[name] = value
    return small.with_groups(groups, single)


def start_of(dataset: Dataset, folder: Path, wanted: Any) -> dict[str, torch.Tensor]:
    """Returns the trainable weights of step 0 by name."""
    work = folder / "start"
    work.mkdir(parents=True, exist_ok=True)
    run = build.make_training_run(dataset, work, wanted, build.prepare(dataset, work, wanted, None))
    return {
        name.replace("base_model.model.", "").replace(".base_layer", ""): weight.detach().clone()
        for name, weight in run.model.named_parameters()
        if "lora_" not in name
        and (weight.requires_grad or (wanted.lora.rank and ".base_layer" in name))
    }


def outcome(way: Way, dataset: Dataset, out: Path, start: dict[str, torch.Tensor]) -> Learned:
    """Reads what a finished training left in its index."""
    index = Index.open(out, "cpu")
    folder = versions.folder(out, versions.live(out))
    _, losses = read_scalars(folder / "log" / "tensorboard")["training/loss"]
    texts, judged = dataset.query_texts(), dataset.qrels_of("train")
    hits = index.search([texts[query_id] for query_id in judged], k=1)
    pairs = zip(judged.values(), hits, strict=True)
    answered = sum(hit[0].doc_id in wanted for wanted, hit in pairs) / len(judged)
    ends = index.model.state_dict()
    still = [
        name
        for name, value in start.items()
        if way.has_gradient(name) and ends[name].float().equal(value.float())
    ]
    return Learned(list(losses), answered, still)


class ProductsRead(TorchDispatchMode):
    """Notes, of each matrix of a bf16 product that has a weight's shape, whether it is a live one.

    Attributes:
        read: How many such matrices were seen.
        stale: Shapes of those that equal no weight as it is now, rounded.
    """

    def __init__(self, weights: list[torch.Tensor]) -> None:
        super().__init__()
        self.read = 0
        self.stale: list[tuple[int, ...]] = []
        self._weights = [weight for weight in weights if weight.dim() >= 2]
        self._shapes = {
            tuple(sorted((rows, weight.shape[-1])))
            for weight in self._weights
            for rows in (weight.shape[-2], weight[..., 0].numel(), weight.shape[-1])
        }

    def __torch_dispatch__(self, function, types, words=(), named=None):
        if function.overloadpacket.__name__ in PRODUCTS:
            for matrix in words:
                if self._like_a_weight(matrix):
                    self.read += 1
                    if not any(self._equals(matrix, weight) for weight in self._weights):
                        self.stale.append(tuple(matrix.shape))
        return function(*words, **(named or {}))

    def _like_a_weight(self, matrix: Any) -> bool:
        return (
            isinstance(matrix, torch.Tensor)
            and matrix.dim() == 2
            and matrix.dtype == torch.bfloat16
            and tuple(sorted(matrix.shape)) in self._shapes
        )

    @staticmethod
    def _equals(matrix: torch.Tensor, weight: torch.Tensor) -> bool:
        """Whether a matrix is the weight rounded, or one of its slices (as of keys and values)."""
        rows = weight.detach().flatten(0, -2).bfloat16()
        for turned in (matrix, matrix.T):
            last = len(rows) - len(turned)
            if turned.shape[1] != rows.shape[1] or last < 0:
                continue
            # Keys and values of nn.MultiheadAttention begin after the rows of its queries.
            starts = (rows[: last + 1] == turned[0]).all(1).nonzero().flatten().tolist()
            if any(torch.equal(rows[first : first + len(turned)], turned) for first in starts):
                return True
        return False


@contextmanager
def watched_products() -> Iterator[list[ProductsRead]]:
    """Watches the products of every training loop that runs inside, forward and backward."""
    from dsi.training import loop

    seen: list[ProductsRead] = []
    real = loop._train

    def train(run: Any, precision: str) -> Any:
        if precision == "fp32" or run.deepspeed is not None:  # it copies the network
            return real(run, precision)
        seen.append(ProductsRead(list(run.model.parameters())))
        with seen[-1]:
            return real(run, precision)

    loop._train = train
    try:
        yield seen
    finally:
        loop._train = real
