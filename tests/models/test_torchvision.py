"""Torchvision's models by name: weights, seeds, refusals, and training as tickets."""

import numpy as np
import pytest
import torch
from torch import nn

import nets_deap as nets
from nets_deap.models import torchvision_model


def test_weights_are_new_seeded_and_leave_the_global_state_alone():
    state = torch.get_rng_state()
    one, same, other = (torchvision_model("squeezenet1_1", seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    weights = [dict(m.named_parameters())["classifier.1.weight"] for m in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert one.training


def test_the_stem_is_torchvisions_and_the_classes_are_the_users():
    model = torchvision_model("resnet18", classes=7, image=(3, 40, 32))
    assert (model.conv1.kernel_size, model.conv1.stride) == ((7, 7), (2, 2))
    assert isinstance(model.maxpool, nn.MaxPool2d)
    # Looking whether the image suits must not count as training.
    assert not model.bn1.running_mean.any()
    assert model(torch.randn(2, 3, 40, 32)).shape == (2, 7)


def test_auxiliary_outputs_are_left_out():
    model = torchvision_model("googlenet")
    assert isinstance(model(torch.randn(2, 3, 32, 32)), torch.Tensor)
    assert not any("aux" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("resnet-18", {}, r"model must be a known name: .*Did you mean 'resnet18'"),
        ("fcn_resnet50", {}, r"model must be a known name"),
        ("resnet18", {"image": (1, 28, 28)}, r"image must suit torchvision's models: .*3 channels"),
        ("resnet18", {"image": (32, 32)}, r"image must be a shape"),
        ("squeezenet1_1", {"image": (3, 8, 8)}, r"image must suit the model squeezenet1_1: "),
        ("inception_v3", {}, r"image must suit the model inception_v3: .*got 3x32x32: "),
        ("vit_b_16", {"image": (3, 30, 30)}, r"image must suit the model vit_b_16: "),
        ("resnet18", {"classes": 0}, r"classes must be in range"),
        ("resnet18", {"seed": -1}, r"seed must be in range"),
    ],
)
def test_what_cannot_be_is_refused(name, options, text):
    with pytest.raises(ValueError, match=text):
        torchvision_model(name, **options)


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("resnet18", (3, 16, 16)),
        ("mobilenet_v3_small", (3, 16, 16)),
        ("squeezenet1_1", (3, 24, 24)),
    ],
)
def test_tickets_of_them_train(name, image):
    model = torchvision_model(name, image=image, classes=4)
    rng = np.random.default_rng(0)
    split = (rng.normal(size=(8, *image)).astype(np.float32), np.arange(8) % 4)
    recipe = nets.Recipe(batch_size=4, steps=2, lr=1e-3)
    task = nets.Task(model, train=split, val=split, recipe=recipe, device="cpu")
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert task.layout.size == sum(layer.weight.numel() for layer in layers)
    mask = rng.random(task.layout.size) < 0.3
    result = task.train(task.ticket(mask))
    assert np.isfinite(result.val_loss)
    trained = dict(result.module().named_parameters())
    first = task.layout.layers[0]
    keep = mask[: first.size].reshape(first.shape)
    after, before = trained[first.name].detach().numpy(), dict(model.named_parameters())[first.name]
    assert not after[~keep].any()
    assert (after != before.detach().numpy())[keep].any()
