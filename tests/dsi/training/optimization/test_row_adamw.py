"""AdamW on touched rows, compared with PyTorch's own optimizers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from dsi.training.optimization.row_adamw import RowAdamW, clip_grad_norm

ROWS, WIDTH = 11, 3
READ = [[1, 4, 4], [2, 4, 7], [1, 1, 1], [9, 2, 4], [7, 4, 2]]


class Network(nn.Module):
    """A table that is read, and a layer after it."""

    def __init__(self, sparse: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(ROWS, WIDTH, sparse=sparse)
        self.layer = nn.Linear(WIDTH, 2)

    def forward(self, read: list[int]) -> torch.Tensor:
        return self.layer(self.table(torch.tensor(read))).square().sum()


def test_rows_move_as_by_sparse_adam_and_the_rest_as_by_adamw():
    ours, theirs = Network(sparse=True), Network(sparse=True)
    optimizer = RowAdamW(ours.parameters(), lr=0.1, weight_decay=0.0, fused=True)
    pair = [
        torch.optim.SparseAdam(theirs.table.parameters(), lr=0.1),
        torch.optim.AdamW(theirs.layer.parameters(), lr=0.1, weight_decay=0.0),
    ]
    for read in READ:
        for network, steps in ((ours, [optimizer]), (theirs, pair)):
            network.zero_grad()
            network(read).backward()
            for each in steps:
                each.step()
        assert ours.table.weight.grad.is_sparse, "it is there to be looked at"
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, atol=1e-6, rtol=1e-5)
    untouched = [row for row in range(ROWS) if not any(row in read for read in READ)]
    assert torch.equal(ours.table.weight[untouched], Network(True).table.weight[untouched])


def test_where_every_row_is_touched_it_is_adamw():
    ours, theirs = Network(sparse=True), Network(sparse=False)
    options = {"lr": 0.05, "betas": (0.9, 0.95), "weight_decay": 0.3, "fused": True}
    for network, kind in ((ours, RowAdamW), (theirs, torch.optim.AdamW)):
        optimizer = kind(network.parameters(), **options)
        for step in range(4):
            optimizer.zero_grad()
            network([*range(ROWS), step, 2 * step]).backward()
            optimizer.step()
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, atol=1e-6, rtol=1e-5)


def test_its_state_is_kept_and_goes_on():
    network = Network(sparse=True)
    optimizer = RowAdamW(network.parameters(), lr=0.1, fused=True)
    for number, read in enumerate(READ):
        if number == 2:
            other = copy.deepcopy(network)
            again = RowAdamW(other.parameters(), lr=0.1, fused=True)
            again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        for each, steps in (
            ((network, optimizer), (other, again)) if number > 1 else ((network, optimizer),)
        ):
            steps.zero_grad()
            each(read).backward()
            steps.step()
    for name, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


@pytest.mark.parametrize("limit", [0.5, 1e6])
def test_clipping_takes_sparse_and_dense_gradients_together(limit):
    ours, theirs = Network(sparse=True), Network(sparse=False)
    for network in (ours, theirs):
        for read in READ[:2]:  # gradients of two parts are summed
            network(read).backward()
    clip_grad_norm(ours.parameters(), limit)
    torch.nn.utils.clip_grad_norm_(theirs.parameters(), limit)
    for name, weight in theirs.named_parameters():
        found = ours.get_parameter(name).grad.to_dense()
        torch.testing.assert_close(found, weight.grad, atol=1e-6, rtol=1e-5)
