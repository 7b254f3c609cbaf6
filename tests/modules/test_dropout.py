"""Random components: what masks look like in training, and that they are quiet in evaluation."""

import pytest
import torch

from nnet.runtime.compiled import compile_network
from tests.support import network_from


def module_of(kind, settings, dim=8):
    return compile_network(
        network_from(f"""
        input-node name=input dim={dim}
        component name=d type={kind}Component dim={dim} {settings}
        component-node name=d component=d input=input
        output-node name=output input=d
        """)
    )


def masked(module, frames=50, batch=6, dim=8, seed=0):
    torch.manual_seed(seed)
    x = torch.ones(batch, frames, dim)
    return module({"input": x}, module.chunk_request(frames))["output"]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("GeneralDropout", "dropout-proportion=0.3"),
        ("GeneralDropout", "dropout-proportion=0.3 continuous=true"),
        ("SpecAugmentTimeMask", "zeroed-proportion=0.3 time-mask-max-frames=5"),
    ],
)
def test_evaluation_is_the_identity(kind, settings):
    assert (masked(module_of(kind, settings).eval()) == 1).all()


def test_dropout_scales_in_evaluation_and_not_in_training():
    module = module_of("Dropout", "dropout-proportion=0.25")
    assert set(masked(module).unique().tolist()) == {0.0, 1.0}
    assert abs(masked(module, frames=400).mean() - 0.75) < 0.02
    assert (masked(module.eval()) == 0.75).all()


def test_dropout_per_frame_takes_whole_rows():
    rows = masked(module_of("Dropout", "dropout-proportion=0.5 dropout-per-frame=true"))
    assert (rows == rows[..., :1]).all()
    assert 0 < rows[..., 0].mean() < 1


def test_a_general_mask_is_shared_over_its_time_period_and_blocks():
    module = module_of("GeneralDropout", "dropout-proportion=0.5 time-period=10 block-dim=4")
    rows = masked(module)
    assert set(rows.unique().tolist()) == {0.0, 2.0}
    assert (rows[..., :4] == rows[..., 4:]).all()
    periods = rows.view(6, 5, 10, 8)
    assert (periods == periods[:, :, :1]).all()
    assert not (periods[:, 0] == periods[:, 1]).all()


def test_a_continuous_mask_is_uniform_around_one():
    rows = masked(module_of("GeneralDropout", "dropout-proportion=0.2 continuous=true"), batch=500)
    assert rows.min() >= 0.6
    assert rows.max() <= 1.4
    assert abs(rows.mean() - 1) < 0.02


def test_spectral_masks_are_bands_of_limited_width():
    settings = "specaugment-max-proportion=0.25 specaugment-max-regions={}"
    narrow = masked(module_of("GeneralDropout", settings.format(1), 40), batch=300, dim=40)
    zeros = (narrow == 0).sum(dim=-1)
    assert zeros.max() <= 10
    assert zeros.max() > 5
    edges = (narrow != narrow.roll(1, dims=-1)).sum(dim=-1)
    assert edges.max() == 2
    split = masked(module_of("GeneralDropout", settings.format(3), 40), batch=300, dim=40)
    assert (split == 0).sum(dim=-1).max() <= 10
    assert (split != split.roll(1, dims=-1)).sum(dim=-1).max() > 2


def test_time_masks_zero_stretches_of_bounded_length():
    module = module_of("SpecAugmentTimeMask", "zeroed-proportion=0.2 time-mask-max-frames=5")
    rows = masked(module, frames=500, batch=20)
    assert (rows == rows[..., :1]).all()
    assert abs((rows == 0).float().mean() - 0.2) < 0.05
    for sequence in rows[..., 0]:
        lengths = [len(run) for run in "".join(str(int(v)) for v in sequence).split("1")]
        assert max(lengths) <= 5


def test_a_seed_repeats_the_masks():
    module = module_of("GeneralDropout", "dropout-proportion=0.5")
    assert torch.equal(masked(module, seed=5), masked(module, seed=5))
    assert not torch.equal(masked(module, seed=5), masked(module, seed=6))


def test_the_proportion_can_be_changed():
    module = module_of("Dropout", "dropout-proportion=0.5")
    module.set_dropout_proportion(0.0)
    assert (masked(module) == 1).all()


def mask_module(settings):
    return compile_network(
        network_from(f"""
        input-node name=input dim=2
        component name=m type=DropoutMaskComponent {settings}
        component-node name=m component=m input=m
        output-node name=output input=Append(input, m)
        """)
    )


def masks(module, dim):
    return masked(module, frames=2000, batch=1, dim=2)[0, :, 2:].reshape(-1, dim)


def test_dropout_masks_of_gates_are_never_both_zero():
    rows = masks(mask_module("output-dim=3 dropout-proportion=0.4"), 3)
    assert set(rows.unique().tolist()) == {0.0, 1.0}
    assert (rows[:, :2].sum(dim=1) >= 1).all()
    assert ((rows.mean(dim=0) - 0.6).abs() < 0.05).all()


def test_dropout_masks_are_means_in_evaluation():
    module = mask_module("output-dim=4 dropout-proportion=0.25").eval()
    assert (masks(module, 4) == 0.75).all()
    continuous = mask_module("output-dim=4 dropout-proportion=0.25 continuous=true")
    rows = masks(continuous, 4)
    assert rows.min() >= 0.5
    assert rows.max() <= 1.5
    assert abs(rows.mean() - 1) < 0.02
    assert (masks(continuous.eval(), 4) == 1).all()
