"""fp16's scaler leaves out steps with infinite gradients and counts them; in other precisions it does nothing."""

import pytest
import torch

from fbnetv3.training.scaler import LEAST_SCALE, Scaler


def parameter_with(gradient, scaler):
    parameter = torch.nn.Parameter(torch.zeros(1))
    scaler.scale((parameter * gradient).sum()).backward()
    return parameter, torch.optim.SGD([parameter], 1.0)


def test_steps_with_infinite_gradients_are_left_out_and_counted():
    scaler = Scaler("fp16")
    for gradient, moved, skipped, scale in (
        (3.0, -3.0, 0, 2.0**16),
        (float("inf"), 0.0, 1, 2.0**15),
        (1.0, -1.0, 1, 2.0**15),
    ):
        parameter, optimizer = parameter_with(gradient, scaler)
        scaler.step(optimizer)
        scaler.update()
        assert (parameter.item(), scaler.skipped, scaler.get_scale()) == (moved, skipped, scale)
    assert not scaler.vanished()


def test_a_scale_that_falls_to_nothing():
    scaler, halvings = Scaler("fp16"), 0
    while not scaler.vanished():
        _, optimizer = parameter_with(float("nan"), scaler)
        scaler.step(optimizer)
        scaler.update()
        halvings += 1
    assert halvings == scaler.skipped == 31
    assert scaler.get_scale() < LEAST_SCALE


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_other_precisions_have_none(precision):
    scaler = Scaler(precision)
    parameter, optimizer = parameter_with(float("inf"), scaler)
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert parameter.item() == -float("inf")
    assert (scaler.skipped, scaler.vanished(), scaler.state_dict()) == (0, False, {})
