"""Int8 networks: how far they agree with the network, what stays float32, files, mistakes."""

import dataclasses

import pytest
import torch

from fbnetv3 import Arch, Block, InputError, build_model
from fbnetv3.inference.optimize import optimize_for_inference
from fbnetv3.inference.quantization import load_quantized, quantize, save_quantized
from fbnetv3.training.data.memory import Split, normalise
from fbnetv3.training.data.packaged import fashion_mnist
from fbnetv3.training.engine import seeded
from fbnetv3.training.loop import fit
from fbnetv3.training.recipe import Recipe

pytest.importorskip("nncf")
openvino = pytest.importorskip("openvino")

ARCH = Arch(
    "small",
    28,
    Block("conv", 8, k=3, s=2),
    ((Block("ir", 16, k=3, e=2, s=2), Block("ir", 16, k=3, e=2, se=True)),),
    Block("pool", 32, e=2),
)
# Four classes that are easy to distinguish: in two epochs the network learns them well enough that few images are near a
# boundary, where rounding decides.
CLASSES = torch.tensor([0, 1, 5, 8])
RECIPE = Recipe(optimizer="sgd", lr=0.1, epochs=2, batch_size=64, warmup_epochs=0.2, schedule="cosine")


def only(split, count=None):
    """The images of the four classes."""
    rows = torch.isin(split.labels, CLASSES).nonzero()[:count, 0]
    return Split(split.images[rows], split.labels[rows])


FULL = fashion_mnist()
DATA = dataclasses.replace(FULL, train=only(FULL.train), val=only(FULL.val, 100), test=only(FULL.test))


def prepared(images):
    return normalise(images, DATA.mean, DATA.std)


CALIBRATION = [prepared(part) for part in DATA.train.images[:128].split(50)]  # the last batch is smaller


@pytest.fixture(scope="module")
def trained(one_thread):
    network = seeded(lambda: build_model(ARCH, 10, 1), 0)
    return fit(network, RECIPE, DATA, seed=0).model


@pytest.fixture(scope="module")
def int8(trained):
    return quantize(trained, CALIBRATION)


def logits(run, images):
    with torch.no_grad():
        return torch.cat([run(prepared(part)) for part in images.split(200)])


def test_int8_agrees_with_the_network_on_real_images(trained, int8):
    plain, rounded = logits(trained, DATA.test.images), logits(int8, DATA.test.images)
    correct = [float((each.argmax(1) == DATA.test.labels).float().mean()) for each in (plain, rounded)]
    assert correct[0] > 0.8, "the network learned little: agreement would mean little"
    assert abs(correct[0] - correct[1]) < 0.02
    assert float((plain.argmax(1) == rounded.argmax(1)).float().mean()) > 0.97
    assert not torch.allclose(plain, rounded, rtol=1e-4, atol=1e-4), "nothing was rounded"
    assert int8.backend == "openvino int8"


def test_depthwise_convolutions_and_squeeze_excitation_stay_float(int8):
    weights = {}
    for operator in int8.run.model.get_ops():
        if operator.get_type_name() in ("Convolution", "GroupConvolution", "MatMul"):
            source = operator.input_value(1).get_node().get_type_name()  # int8 ones are multiplied by their scale
            weights.setdefault((operator.get_type_name(), source), []).append(operator.get_friendly_name())
    assert set(weights) == {
        ("Convolution", "Multiply"),
        ("Convolution", "Constant"),
        ("GroupConvolution", "Constant"),
        ("MatMul", "Multiply"),
    }
    assert len(weights["Convolution", "Constant"]) == 2
    assert all(".se." in name for name in weights["Convolution", "Constant"])


def test_calibration_images_decide_the_ranges(trained, int8):
    dark = quantize(trained, [batch * 0.01 for batch in CALIBRATION])
    dark_first = quantize(trained, [CALIBRATION[0][:1] * 0.01, *CALIBRATION])
    plain = logits(trained, DATA.test.images)
    good, bad, mixed = (float((logits(run, DATA.test.images) - plain).abs().mean()) for run in (int8, dark, dark_first))
    assert bad > 3 * good
    assert mixed < 2 * good, "only the first batch was used"


def test_a_saved_network_is_the_same_and_small(tmp_path, trained, int8):
    paths = save_quantized(int8, tmp_path / "new" / "net.xml")
    assert [path.name for path in paths] == ["net.xml", "net.bin"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["net.bin", "net.xml"]
    loaded = load_quantized(paths[0], CALIBRATION[0])
    assert torch.equal(logits(loaded, DATA.test.images[:300]), logits(int8, DATA.test.images[:300]))
    assert repr(loaded) == repr(int8)
    parameters = sum(parameter.numel() for parameter in trained.parameters())
    assert paths[1].stat().st_size < 2.5 * parameters


def test_the_network_is_left_alone_and_nothing_is_printed(trained, capfd):
    before = {key: value.clone() for key, value in trained.state_dict().items()}
    trained.train()
    quantize(trained, iter(CALIBRATION[:1]))
    assert trained.training
    assert all(torch.equal(value, before[key]) for key, value in trained.eval().state_dict().items())
    assert capfd.readouterr().out == ""


def test_a_full_disk_leaves_nothing(tmp_path, int8, monkeypatch):
    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fbnetv3.inference.export.os.fsync", full)
    with pytest.raises(InputError, match=r"cannot write .*net\.xml: No space left on device"):
        save_quantized(int8, tmp_path / "net.xml")
    assert not list(tmp_path.iterdir())


def test_mistakes(tmp_path, trained, int8, monkeypatch):
    with pytest.raises(InputError, match="calibration has no images"):
        quantize(trained, [])
    with pytest.raises(
        InputError, match=r"example is float32 \[50, 2, 28, 28\] on cpu, which the network does not accept"
    ):
        quantize(trained, [CALIBRATION[0].expand(-1, 2, -1, -1)])
    with pytest.raises(
        InputError, match=r"a batch is torch.float32 \[50, 1, 14, 28\], the first torch.float32 \[50, 1,"
    ):
        quantize(trained, [CALIBRATION[0], CALIBRATION[0][:, :, :14]])
    with pytest.raises(InputError, match=r"net\.bin; the file of an int8 network ends in \.xml"):
        save_quantized(int8, tmp_path / "net.bin")
    plain = optimize_for_inference(trained, CALIBRATION[0], "openvino")
    with pytest.raises(
        InputError, match=r"OptimizedModel\(openvino, .* is not an int8 network; give what fbnetv3\.quantize"
    ):
        save_quantized(plain, tmp_path / "net.xml")
    with pytest.raises(
        InputError, match=r"cannot run .*absent\.xml on \[50, 1, 28, 28\]: .*give a file that save_quantized wrote"
    ):
        load_quantized(tmp_path / "absent.xml", CALIBRATION[0])
    (tmp_path / "damaged.xml").write_text("<net/>")
    with pytest.raises(InputError, match=r"cannot run .*damaged\.xml"):
        load_quantized(tmp_path / "damaged.xml", CALIBRATION[0])
    monkeypatch.setattr("fbnetv3.inference.runtimes.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"int8 needs openvino, nncf; run: pip install \"fbnetv3\[export\]\""):
        quantize(trained, CALIBRATION)
