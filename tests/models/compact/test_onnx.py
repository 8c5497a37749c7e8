"""ONNX files are those of torch's function, in the runtime itself."""

import numpy as np
import pytest
import torch
from torch import nn

import nets_deap as nets
from nets_deap.errors import FileAccessError, InvalidValueError, MissingExtraError
from nets_deap.models import lenet5
from nets_deap.models.compact import onnx
from nets_deap.tickets.layout_of import layout_of

pytestmark = pytest.mark.extra

pytest.importorskip("onnxscript")
runtime = pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("compact", [True, False])
def test_a_sparse_network_computes_the_same_elsewhere(tmp_path, compact):
    model = lenet5(seed=1).eval()
    layout = nets.MaskLayout.of(model)
    ticket = nets.Ticket(np.random.default_rng(0).random(layout.size) < 0.03, layout)
    ticket.apply(model, "prune")
    path, x = tmp_path / "a.onnx", torch.rand(1, 1, 28, 28)
    assert ticket.to_onnx(model, path, x, compact=compact) < 1e-5
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for n in (1, 7):
        x = torch.rand(n, 1, 28, 28)
        got = session.run(None, {"input": x.numpy()})[0]
        np.testing.assert_allclose(got, model(x).detach().numpy(), rtol=0, atol=1e-5)


def test_networks_that_change_in_the_runtime_are_not_written(tmp_path, monkeypatch):
    model, x = nn.Linear(3, 2).eval(), torch.rand(4, 3)
    monkeypatch.setattr(onnx, "TOLERANCE", -1.0)
    with pytest.raises(InvalidValueError, match="output of onnxruntime must be torch's"):
        onnx.write_onnx(model, tmp_path / "a", x)
    assert not list(tmp_path.iterdir())


class Branches(nn.Module):
    def forward(self, x):
        return x if float(x.sum()) > 1e9 else -x


class Decides(nn.Sequential):
    def forward(self, x):
        return super().forward(x if torch.is_grad_enabled() or x.sum().item() > -1e9 else -x)


class Skips(nn.Sequential):
    def forward(self, x):
        return super().forward(x) + x


def test_any_network_is_written_compact(tmp_path):
    torch.manual_seed(0)
    model, x = (
        nn.Sequential(Skips(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 3))).eval(),
        torch.rand(4, 3),
    )
    layout = layout_of(model, unit="neuron")
    ticket = nets.Ticket([1, 0, 1, 0, 0], layout)
    ticket.apply(model)
    assert ticket.to_onnx(model, tmp_path / "a", x) < 1e-5
    assert ticket.to_onnx(model, tmp_path / "b", x, compact=False) < 1e-5
    assert (tmp_path / "a").stat().st_size < (tmp_path / "b").stat().st_size


def test_what_cannot_be_compacted_is_written_whole_if_asked(tmp_path):
    model, x = Decides(nn.Linear(3, 3)).eval(), torch.rand(4, 3)
    layout = nets.MaskLayout.of(model)
    ticket = nets.Ticket([1, 0, 1, 0, 0, 1, 1, 0, 0], layout)
    for compact in (True, False):
        with pytest.raises(InvalidValueError, match="zero at every pruned position"):
            ticket.to_onnx(model, tmp_path / "a", x, compact=compact)
    ticket.apply(model)
    with pytest.raises(InvalidValueError, match="With compact=False the whole network"):
        ticket.to_onnx(model, tmp_path / "a", x)


def test_what_cannot_be_written_is_refused(tmp_path):
    model, x = nn.Linear(3, 2), torch.rand(4, 3)
    with pytest.raises(InvalidValueError, match="module must be in evaluation mode"):
        onnx.write_onnx(model, tmp_path / "a", x)
    with pytest.raises(InvalidValueError, match="example must hold inputs"):
        onnx.write_onnx(model.eval(), tmp_path / "a", x[:0])
    with pytest.raises(InvalidValueError, match=r"example must be inputs .* torch\.float64"):
        onnx.write_onnx(model, tmp_path / "a", x.double())
    with pytest.raises(InvalidValueError, match="module must be one that ONNX can hold"):
        onnx.write_onnx(Branches().eval(), tmp_path / "a", x)
    with pytest.raises(FileAccessError, match="path must be writable"):
        onnx.write_onnx(model, tmp_path / "missing" / "a", x)


def test_without_the_extra_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r'pip install -e "\.\[onnx\]"'):
        onnx.write_onnx(nn.Linear(3, 2).eval(), tmp_path / "a", torch.rand(4, 3))


class Mixed(nn.Module):
    """Numbers, and which of them count; takes more than it uses."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x, mask, more=None):
        return self.linear(x * mask)


class Whole(Mixed):
    def forward(self, batch):
        return super().forward(batch["x"], batch["mask"])


@pytest.mark.parametrize(
    ("build", "put", "names"),
    [
        (Mixed, lambda x, mask: (x, mask), ["input_0", "input_1"]),
        (Mixed, lambda x, mask: {"mask": mask, "x": x}, ["mask", "x"]),
        (Mixed, lambda x, mask: {"more": x, "mask": mask, "x": x}, ["mask", "x"]),
        (Whole, lambda x, mask: {"x": x, "mask": mask}, ["x", "mask"]),
    ],
)
@pytest.mark.parametrize("n", [1, 5])
def test_several_inputs_are_written_under_their_names(tmp_path, build, put, names, n):
    model, x, mask = build().eval(), torch.rand(n, 4), torch.rand(n, 4) > 0.3
    assert onnx.write_onnx(model, tmp_path / "a", put(x, mask)) < 1e-5
    session = runtime.InferenceSession(tmp_path / "a", providers=["CPUExecutionProvider"])
    assert {one.name for one in session.get_inputs()} >= set(names)
    x, mask = torch.rand(7, 4), torch.rand(7, 4) > 0.3
    values = dict(zip(sorted(names), (mask, x) if "x" in names else (x, mask), strict=True))
    values["more"] = x
    got = session.run(None, {one.name: values[one.name].numpy() for one in session.get_inputs()})
    expected = model.linear(x * mask).detach().numpy()
    np.testing.assert_allclose(got[0], expected, rtol=0, atol=1e-5)
