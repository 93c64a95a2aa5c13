import copy
import math
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from fbnetv3 import Arch, Block, InputError, build_model
from fbnetv3.training.engine import cpu_threads
from fbnetv3.training.network.build import apply_regularisation, build
from fbnetv3.training.network.dropout import DropBranch, DropInput, hooks_kept, stochastic_depth_rates
from fbnetv3.training.network.find_branches import find_branches


@pytest.fixture(autouse=True)
def one_thread():
    with cpu_threads(1):
        torch.manual_seed(0)
        yield


def bias_only(i, n):
    """A convolution of n channels that gives 1 in channel i, whatever comes in."""
    conv = nn.Conv2d(n, n, 1)
    nn.init.zeros_(conv.weight)
    conv.bias.data = torch.eye(n)[i]
    return conv


class Residual(nn.Module):
    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x):
        return x + self.conv(x)


class Counted(nn.Module):
    """Logit i of an all-zero image is what branch i added."""

    def __init__(self, n=4):
        super().__init__()
        self.blocks = nn.Sequential(*(Residual(bias_only(i, n)) for i in range(n)))
        self.fc = nn.Linear(n, n)
        self.fc.weight.data, self.fc.bias.data = torch.eye(n), torch.zeros(n)

    def forward(self, x):
        return self.fc(self.blocks(x).mean((2, 3)))


def small_resnet(classes=5):
    from torchvision.models.resnet import BasicBlock, ResNet

    return ResNet(BasicBlock, [1, 1, 1, 1], classes)


def within(count, n, p):
    """Five deviations of the binomial."""
    return abs(count - n * p) <= 5 * math.sqrt(n * p * (1 - p))


# What the hooks do


def test_branches_are_dropped_per_sample_linearly_in_depth_and_the_mean_stays():
    n = 20000
    applied = apply_regularisation(Counted(), stochastic_depth=0.4)
    assert stochastic_depth_rates(applied.model) == pytest.approx(
        {"blocks.1.conv": 0.1, "blocks.2.conv": 0.2, "blocks.3.conv": 0.3}
    )
    out = applied.model.train()(torch.zeros(n, 4, 1, 1))
    for i, rate in enumerate((0.0, 0.1, 0.2, 0.3)):
        dropped = out[:, i] == 0
        assert within(int(dropped.sum()), n, rate)
        assert out[~dropped, i].unique().tolist() == pytest.approx([1 / (1 - rate)])
        assert out[:, i].mean().item() == pytest.approx(1.0, abs=0.03)
    both = ((out[:, 2] == 0) & (out[:, 3] == 0)).sum()
    assert within(int(both), n, 0.2 * 0.3)  # branches are dropped independently


def test_a_resnet_block_without_its_branch_is_its_shortcut():
    model = apply_regularisation(small_resnet(), stochastic_depth=0.5).model.train()
    assert stochastic_depth_rates(model) == pytest.approx(
        {"layer2.0.bn2": 0.125, "layer3.0.bn2": 0.25, "layer4.0.bn2": 0.375}
    )
    block = model.layer4[0]
    x = torch.rand(400, 256, 2, 2)
    with torch.no_grad():
        out = block(x)
        shortcut = F.relu(block.downsample(x))
    alone = (out == shortcut).flatten(1).all(1)
    assert within(int(alone.sum()), 400, 0.375)


def test_dropout_before_the_classifier():
    n = 20000
    applied = apply_regularisation(Counted(), dropout=0.25)
    assert applied.dropout == "0.25, wrapper before fc"
    out = applied.model.train()(torch.zeros(n, 4, 1, 1))
    assert sorted(out.unique().tolist()) == pytest.approx([0, 1 / 0.75])
    assert within(int((out == 0).sum()), 4 * n, 0.25)


def test_keys_and_eval_outputs_are_those_of_the_bare_model():
    bare = small_resnet().eval()
    model = apply_regularisation(copy.deepcopy(bare), 0.5, 0.5).model.eval()
    x = torch.rand(3, 3, 32, 32)
    assert list(model.state_dict()) == list(bare.state_dict())
    assert [n for n, _ in model.named_modules()] == [n for n, _ in bare.named_modules()]
    assert torch.equal(model(x), bare(x))
    torch.manual_seed(1)
    state = torch.get_rng_state()
    model(x)
    assert torch.equal(torch.get_rng_state(), state)  # eval draws nothing
    model.train()
    assert not torch.equal(model(x), bare.train()(x))


def test_gradients_flow_through_kept_branches_alone():
    model = apply_regularisation(Counted(2), stochastic_depth=0.8).model.train()
    out = model(torch.zeros(50, 2, 1, 1))
    out.sum().backward()
    kept = (out[:, 1] != 0).sum().item()
    assert 0 < kept < 50
    assert model.blocks[1].conv.bias.grad[1].item() == pytest.approx(kept / 0.6)
    assert model.blocks[0].conv.bias.grad[0].item() == pytest.approx(50)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), lambda m: AveragedModel(m)])
def test_copies_have_hooks_of_their_own(copied):
    model = apply_regularisation(Counted(), 0.5, 0.4).model.train()
    twin = copied(model).train()
    x = torch.zeros(64, 4, 1, 1)
    torch.manual_seed(3)
    out = twin(x)
    torch.manual_seed(3)
    assert torch.equal(model(x), out)
    assert (out == 0).any()
    apply_regularisation(model)  # must not reach the copy
    assert (model(x) == 1).all()
    assert (twin(x) == 0).any()
    assert (twin.eval()(x) == 1).all()


def hooks(model):
    every = [h for m in model.modules() for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
    return [h for h in every if isinstance(h, (DropBranch, DropInput))]


def test_applying_again_replaces_the_rates():
    model = small_resnet()
    handle = model.fc.register_forward_pre_hook(lambda module, args: None)
    for _ in range(2):
        apply_regularisation(model, 0.1, 0.2)
        assert len(hooks(model)) == 4
    apply_regularisation(model, 0.3, 0.4)
    assert [h.rate for h in hooks(model)] == pytest.approx([0.1, 0.2, 0.3, 0.3])
    applied = apply_regularisation(model)
    assert hooks(model) == []
    assert (applied.dropout, applied.stochastic_depth, applied.complete) == ("off", "off", True)
    assert handle.id in model.fc._forward_pre_hooks  # others' hooks stay


def test_hooks_survive_a_conversion_that_replaces_modules():
    model = apply_regularisation(small_resnet(), 0.1, 0.4).model
    with hooks_kept(model):
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert isinstance(model.layer4[0].bn2, nn.SyncBatchNorm)
    assert stochastic_depth_rates(model) == pytest.approx(
        {"layer2.0.bn2": 0.1, "layer3.0.bn2": 0.2, "layer4.0.bn2": 0.3}
    )


def test_a_compiled_model_drops_in_training_alone():
    model = apply_regularisation(Counted(), 0.0, 0.4).model
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    x = torch.zeros(200, 4, 1, 1)
    assert (compiled.train()(x) == 0).any()
    assert (compiled.eval()(x) == 1).all()


# Where branches are


class Net(nn.Module):
    """Parts by name, and a forward that the test gives."""

    def __init__(self, run, **parts):
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.run(self, x)


def lin():
    return nn.Linear(4, 4)


def two():
    return nn.Sequential(lin(), nn.ReLU(), lin())


SUMS = {
    "identity": (lambda s, x: x + s.f(x), {"f": lin}, ["f"]),
    "in place, branch first": (lambda s, x: s.f(x).add_(x), {"f": lin}, ["f"]),
    "projection": (lambda s, x: s.p(x) + s.f(x), {"p": lin, "f": two}, ["f"]),
    "pre-norm": (lambda s, x: x + s.f(s.n(x)), {"n": lambda: nn.LayerNorm(4), "f": lin}, ["f"]),
    "two in sequence": (lambda s, x: s.g(y := x + s.f(x)) + y, {"f": lin, "g": lin}, ["f", "g"]),
    "parallel branches": (lambda s, x: x + s.f(x) + s.g(x), {"f": two, "g": lin}, ["f", "g"]),
    "scaled by a number": (lambda s, x: x + 0.1 * s.f(x), {"f": lin}, ["f"]),
    "activation and dropout after": (lambda s, x: F.dropout(F.relu(s.f(x)), 0.1) + x, {"f": lin}, ["f"]),
    "a relu used twice": (lambda s, x: s.r(s.g(s.r(s.f(x)))) + x, {"r": nn.ReLU, "f": lin, "g": lin}, ["g"]),
    "padded shortcut": (lambda s, x: F.pad(x[:, ::2], (1, 1)) + s.f(x), {"f": lin}, ["f"]),
    # Not residual, or not to be known
    "equal terms": (lambda s, x: s.f(x) + s.g(x), {"f": lin, "g": lin}, []),
    "a norm as term": (lambda s, x: s.n(x) + s.f(x), {"n": lambda: nn.LayerNorm(4), "f": lin}, []),
    "branch used elsewhere": (lambda s, x: (x + (y := s.f(x))) * y, {"f": lin}, []),
    "gate": (lambda s, x: x * s.f(x), {"f": lin}, []),
    "picked from a list": (lambda s, x: (y := x.chunk(2, 1))[0] + s.f(y[1]), {"f": lin}, []),
    "control flow": (lambda s, x: x + s.f(x) if x.sum() > 0 else x, {"f": lin}, []),
}


@pytest.mark.parametrize("case", SUMS)
def test_branches_of_a_forward(case):
    run, parts, ends = SUMS[case]
    found = find_branches(Net(run, **{name: make() for name, make in parts.items()}))
    assert list(found.ends) == ends
    assert bool(found.untraced) == (case == "control flow")
    assert bool(found.left) == (
        case in ("equal terms", "a norm as term", "branch used elsewhere", "picked from a list")
    )


def test_an_optional_argument_is_at_its_default():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = lin()

        def forward(self, x, shortcut=None):
            shortcut = x if shortcut is None else shortcut
            return self.f(x) + shortcut

    assert list(find_branches(Block()).ends) == ["f"]


def test_a_position_embedding_is_no_shortcut():
    for run in (lambda s, x: s.f(x) + s.position, lambda s, x: s.f(x * s.position) + s.position):
        assert not find_branches(Net(run, f=lin(), position=nn.Parameter(torch.zeros(4)))).ends


@pytest.mark.parametrize("batch_first", [True, False])
def test_torch_transformer_layers_drop_samples_not_tokens(batch_first):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=batch_first, norm_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.encoder(x))

    model = Own().train()
    bare = copy.deepcopy(model)
    applied = apply_regularisation(model, 0.0, 0.8)
    assert "wrapper on 4 residual branches (linear in depth up to 0.6)" in applied.stochastic_depth
    seen = []
    model.encoder.layers[1].dropout2.register_forward_hook(lambda m, a, out: seen.append(out))
    x = torch.rand(50, 7, 8) if batch_first else torch.rand(7, 50, 8)
    model(x)
    dropped = (seen[0] == 0).all(-1)
    samples = dropped if batch_first else dropped.T
    assert torch.equal(samples.any(1), samples.all(1))
    assert within(int(samples.all(1).sum()), 50, 0.6)
    torch.testing.assert_close(model.eval()(x), bare.eval()(x))


# Own dropouts and stochastic depths


def mlp_head(*extra):
    return Net(
        lambda s, x: s.head(s.body(x).flatten(1)),
        body=nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout(0.3)),
        head=nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2), *extra),
    )


def test_dropouts_of_the_head_are_the_models_own():
    model = mlp_head()
    applied = apply_regularisation(model, 0.2)
    assert applied.dropout == "0.2, set on the model's own head.0, head.3"
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.3, 0.2, 0.2]
    assert "dropout head.0 had the rate 0.5, now 0.2" in applied.notes
    assert "dropouts elsewhere in the model stay as they are: body.1" in applied.notes
    assert not hooks(model)
    apply_regularisation(model, 0.0)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.3, 0.0, 0.0]


def test_dropouts_before_and_inside_transformer_blocks_are_not_the_heads():
    block = Net(lambda s, x: x + s.f(x), f=nn.Sequential(lin(), nn.Dropout(0.1), lin(), nn.Dropout(0.1)))
    model = Net(
        lambda s, x: s.fc(s.block(s.drop(s.patch(x)))), patch=lin(), drop=nn.Dropout(0.1), block=block, fc=lin()
    )
    assert apply_regularisation(model, 0.2).dropout == "0.2, wrapper before fc"
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.1, 0.1, 0.1]


def test_a_layer_of_the_body_is_no_classifier():
    model = Net(lambda s, x: s.block(s.patch(x)), patch=lin(), block=Net(lambda s, x: x + s.f(x), f=lin()))
    applied = apply_regularisation(model, 0.2, 0.2)
    assert applied.dropout == "not applied: no linear classifier found"
    assert applied.stochastic_depth == "not applied: only one residual branch found"
    assert not applied.complete
    with pytest.raises(InputError, match="cannot be applied as it stands:\nmodel: Net\ndropout: not applied"):
        apply_regularisation(model, 0.2, 0.2, strict=True)
    assert apply_regularisation(model, strict=True).complete


def attend(s, x):
    y = s.norm(x)
    y, _ = s.attention(y, y, y)
    x = x + y
    return x + s.mlp(x)


@pytest.mark.parametrize("batch_first", [True, False])
def test_an_own_attention_block_drops_samples_not_tokens(batch_first):
    parts = {"norm": nn.LayerNorm(4), "attention": nn.MultiheadAttention(4, 2, batch_first=batch_first), "mlp": two()}
    model = nn.Sequential(*(Net(attend, **copy.deepcopy(parts)) for _ in range(2)), lin()).train()
    apply_regularisation(model, 0.0, 0.8)
    assert stochastic_depth_rates(model) == pytest.approx({"0.mlp": 0.2, "1.attention": 0.4, "1.mlp": 0.6})
    seen = []
    for part in (model[1].attention, model[1].mlp):
        part.register_forward_hook(lambda m, a, out: seen.append(out[0] if isinstance(out, tuple) else out))
    model(torch.rand(50, 7, 4) if batch_first else torch.rand(7, 50, 4))
    for out, rate in zip(seen, (0.4, 0.6), strict=True):
        dropped = (out == 0).all(-1)
        samples = dropped if batch_first else dropped.T
        assert torch.equal(samples.any(1), samples.all(1))
        assert within(int(samples.all(1).sum()), 50, rate)


def test_parallel_attention_and_mlp_are_two_branches():
    parts = {"attention": nn.MultiheadAttention(4, 2, batch_first=True), "mlp": two()}
    net = Net(lambda s, x: x + s.attention(x, x, x)[0] + s.mlp(x), **parts)
    assert list(find_branches(net).ends) == ["attention", "mlp"]


class DropPath(nn.Module):  # as people copy it from timm
    def __init__(self, drop_prob=None):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x):
        return x


def test_own_stochastic_depths_get_the_rate_and_no_hook():
    blocks = [Net(lambda s, x: x + s.drop(s.f(x)), f=lin(), drop=DropPath()) for _ in range(2)]
    blocks += [Net(lambda s, x: x + s.f(x), f=nn.Sequential(lin(), DropPath()))]
    blocks += [Net(lambda s, x: x + s.f(x), f=lin())]
    blocks += [Net(lambda s, x: x + s.g(s.drop(x)), drop=DropPath(), g=lin())]
    model = nn.Sequential(*blocks, nn.Linear(4, 2))
    applied = apply_regularisation(model, 0.0, 0.5)
    assert stochastic_depth_rates(model) == pytest.approx(
        {"0.drop": 0.0, "1.drop": 0.1, "2.f.1": 0.2, "3.f": 0.3, "4.drop": 0.4}
    )
    assert [h.rate for h in hooks(model)] == pytest.approx([0.3])
    assert "wrapper on 1 residual branches, set on 4 stochastic depths of the model" in applied.stochastic_depth


def test_this_packages_network_keeps_its_own_rule():
    arch = Arch(
        "small",
        28,
        Block("conv", 8, k=3, s=2),
        ((Block("ir", 8, k=3, n=2), Block("ir", 16, k=3, n=2)),),
        Block("pool", 16, e=2),
    )
    applied = apply_regularisation(build_model(arch, 10), 0.2, 0.3)
    wanted = build_model(arch, 10, dropout=0.2, stochastic_depth=0.3)
    assert stochastic_depth_rates(applied.model) == stochastic_depth_rates(wanted) != {}
    assert max(stochastic_depth_rates(wanted).values()) > 0
    assert applied.model.dropout.p == 0.2
    assert not hooks(applied.model)


# By name: (name, dropout, stochastic depth, its largest rate)

BY_NAME = [
    ("fbnetv3_a", "0.2, the model's argument dropout", "0.3, the model's argument stochastic_depth", 0.3 * 27 / 29),
    ("resnet18_deep", "0.2, wrapper before fc", "0.3, wrapper on 16 residual branches", 0.3 * 15 / 16),
    ("timm:resnet18", "0.2, the model's argument drop_rate", "0.3, the model's argument drop_path_rate", 0.3),
    (
        "timm:efficientnet_b0",
        "0.2, the model's argument drop_rate",
        "0.3, the model's argument drop_path_rate",
        0.28125,
    ),
    (
        "timm:vit_tiny_patch16_224",
        "0.2, the model's argument drop_rate",
        "0.3, the model's argument drop_path_rate",
        0.3,
    ),
    ("timm:convnext_atto", "0.2, the model's argument drop_rate", "0.3, the model's argument drop_path_rate", 0.3),
    ("timm:densenet121", "0.2, the model's argument drop_rate", "not applied: no residual branch found", None),
    ("timm:convmixer_768_32", "0.2, the model's argument drop_rate", "0.3, wrapper on 32 residual", 0.3 * 31 / 32),
    ("torchvision:resnet18", "0.2, wrapper before fc", "0.3, wrapper on 8 residual branches", 0.3 * 7 / 8),
    ("torchvision:resnext50_32x4d", "0.2, wrapper before fc", "0.3, wrapper on 16 residual branches", 0.3 * 15 / 16),
    ("torchvision:mobilenet_v2", "0.2, the model's argument dropout", "0.3, wrapper on 10 residual branches", 0.27),
    # Takes stochastic_depth_prob, and ignores it:
    ("torchvision:mobilenet_v3_small", "0.2, the model's argument dropout", "0.3, wrapper on 6 residual", 0.25),
    ("torchvision:densenet121", "0.2, wrapper before classifier", "not applied: no residual branch found", None),
    ("torchvision:alexnet", "0.2, the model's argument dropout", "not applied: no residual branch found", None),
    ("torchvision:squeezenet1_1", "0.2, the model's argument dropout", "not applied: no residual branch found", None),
    ("torchvision:googlenet", "0.2, the model's argument dropout", "not applied: no residual branch found", None),
    (
        "torchvision:efficientnet_b0",
        "0.2, the model's argument dropout",
        "0.3, the model's argument stochastic_depth_prob",
        0.28125,
    ),
    # Takes dropout, and ignores it:
    ("torchvision:convnext_tiny", "0.2, wrapper before classifier.2", "0.3, the model's argument stochastic_dep", 0.3),
    # Its presets fix the argument, and its dropout is another:
    ("torchvision:swin_t", "0.2, wrapper before head", "0.3, set on 12 stochastic depths of the model", 0.275),
    ("torchvision:vit_b_32", "0.2, wrapper before heads.head", "0.3, wrapper on 24 residual branches", 0.3 * 23 / 24),
]


@pytest.mark.parametrize(("name", "dropout", "depth", "largest"), BY_NAME)
def test_what_a_model_gets(name, dropout, depth, largest):
    with torch.device("meta"):
        applied = build(name, 7, dropout=0.2, stochastic_depth=0.3)
    assert applied.dropout == dropout
    assert applied.stochastic_depth.startswith(depth)
    rates = stochastic_depth_rates(applied.model).values()
    assert max(rates, default=0.0) == pytest.approx(largest or 0.0)
    dropouts = {m.p for m in applied.model.modules() if isinstance(m, nn.Dropout)}
    assert dropouts <= ({0.0} if "wrapper" in dropout else {0.0, 0.2})  # not also inside the blocks
    assert applied.summary().splitlines()[0] == f"model: {applied.name}"


@pytest.mark.parametrize(
    "name", ["timm:convnext_atto", "torchvision:alexnet", "torchvision:convnext_tiny", "torchvision:swin_t"]
)
def test_a_rate_of_zero_switches_the_models_default_off(name):
    with torch.device("meta"):
        applied = build(name, 7)
    assert (applied.dropout, applied.stochastic_depth) == ("off", "off")
    assert not any(stochastic_depth_rates(applied.model).values())
    assert not any(m.p for m in applied.model.modules() if isinstance(m, nn.Dropout))


@pytest.mark.parametrize(
    "name", ["timm:resnet10t", "torchvision:resnet18", "resnet18_wide", "torchvision:shufflenet_v2_x0_5"]
)
def test_models_train_on_other_classes_and_channels(name):
    applied = build(name, 7, 1, dropout=0.2, stochastic_depth=0.3)
    out = applied.model.train()(torch.rand(2, 1, 32, 32))
    assert out.shape == (2, 7)
    out.sum().backward()
    if name.startswith("torchvision"):
        assert "conv1" in applied.notes[0]
        assert "replaced by one for 1 channels" in applied.notes[0]


def test_the_new_stem_has_the_deviation_of_the_old_one():
    stem = build("torchvision:resnet18", 7, 5).model.conv1
    assert (stem.in_channels, stem.stride, stem.padding, stem.bias) == (5, (2, 2), (3, 3), None)
    assert stem.weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 49)), rel=0.05)


def test_timms_functional_dropout_is_set_in_a_model_that_is_there():
    import timm

    model = timm.create_model("resnet10t", num_classes=3)
    assert apply_regularisation(model, 0.3).dropout == "0.3, set on the model's own drop_rate"
    assert model.drop_rate == 0.3
    assert not hooks(model)


def test_a_bare_name_is_looked_up_in_order_and_the_summary_says_so():
    with torch.device("meta"):
        ours, timms = build("fbnetv3_b", 7), build("resnet18", 7)
        theirs = build("mnasnet0_5", 7)
    assert (ours.name, timms.name, theirs.name) == ("fbnetv3:fbnetv3_b", "timm:resnet18", "torchvision:mnasnet0_5")
    assert ours.notes == ("timm has a network of this name too: timm:fbnetv3_b",)
    assert "note: torchvision has a network of this name too: torchvision:resnet18" in timms.summary()
    assert theirs.notes == ()


def make_own(num_classes, width=4):
    return Counted(width)


def not_a_model(num_classes):
    return num_classes


def test_an_own_model_by_module_and_name():
    import sys

    sys.modules["own_models"] = sys.modules[__name__]
    try:
        applied = build("own_models:make_own", 7, 1, stochastic_depth=0.3, width=3)
        assert applied.name == "own_models:make_own"
        assert applied.stochastic_depth == "0.3, wrapper on 3 residual branches (linear in depth up to 0.2)"
        assert applied.notes == ("own_models:make_own has no argument in_chans: left to it",)
        for wrong, said in (
            ("own_models:nothing", "no attribute 'nothing'"),
            ("no_such_module:net", "No module named 'no_such_module'"),
            ("own_models:not_a_model", "gave int, not a torch.nn.Module"),
            ("own_models:within", "missing a required argument"),
        ):
            with pytest.raises(InputError, match=said):
                build(wrong, 7)
    finally:
        del sys.modules["own_models"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": "resnet51"}, "unknown model 'resnet51' in fbnetv3, timm, torchvision; did you mean .*resnet50"),
        ({"name": "timm:resnet5O"}, "unknown model 'resnet5O' in timm; did you mean .*resnet50"),
        ({"name": "torchvision:qqqqq"}, "in torchvision; give timm:NAME, torchvision:NAME or MODULE:CALLABLE"),
        ({"name": "resnet18_wid"}, "did you mean resnet18_wide"),
        ({"name": 3}, "model is 3; give the name"),
        ({"name": "resnet18", "dropout": 1.0}, "dropout is 1.0; allowed: 0 <= dropout < 1"),
        ({"name": "resnet18", "stochastic_depth": -0.1}, "stochastic_depth is -0.1; allowed"),
        ({"name": "resnet18", "stochastic_depth": math.nan}, "stochastic_depth is nan; allowed"),
        ({"name": "resnet18", "dropout": "0.2"}, "dropout is '0.2'; allowed"),
        ({"name": "timm:resnet18", "widht": 2}, "timm:resnet18 does not take an argument that was given: .*'widht'"),
        ({"name": "torchvision:resnet18", "widht": 2}, "does not take an argument that was given: .*'widht'"),
        ({"name": "torchvision:resnet18", "in_chans": 0}, "in_chans is 0; allowed"),
        ({"name": "torchvision:alexnet", "stochastic_depth": 0.1, "strict": True}, "cannot be applied as it stands"),
    ],
)
def test_nonsense_is_said(arguments, said):
    with torch.device("meta"), pytest.raises(InputError, match=said):
        build(**{"num_classes": 7} | arguments)
