"""The classification models of torchvision, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from nets_deap import _checks
from nets_deap.models.convolutional import generator
from nets_deap.models.shared import random_states_lock


@_checks.signed
def torchvision_model(
    name: str, *, image: Sequence[int] = (3, 32, 32), classes: int = 10, seed: int = 0
) -> nn.Module:
    """Return a classification model of torchvision with new weights; nothing is downloaded.

    Layers and the distributions of the initial weights are torchvision's, stem included: it is
    made for large images and halves small ones at once. Auxiliary outputs (``"googlenet"``,
    ``"inception_v3"``) are left out. Vision transformers are built for the size of the image.

    Args:
        name: As ``torchvision.models.list_models(module=torchvision.models)`` has it, such as
            ``"resnet18"``.
        image: Channels (3), height and width of the images that it must take.
        classes: Outputs.
        seed: Seed of the initial weights; the global random state stays untouched.

    Raises:
        InvalidValueError: The name is unknown, or the model does not take such images.
    """
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    _checks.choice("model", name, known)
    if len(image) != 3:
        raise _checks.bad_value("image", "be a shape", "(channels, height, width)", tuple(image))
    shape = [_checks.whole(f"image[{i}]", n) for i, n in enumerate(image)]
    if shape[0] != 3:
        raise _checks.bad_value(
            "image", "suit torchvision's models", "3 channels", tuple(shape), "Repeat the channel."
        )
    options: dict[str, Any] = {"num_classes": _checks.whole("classes", classes)}
    if name.startswith("vit_"):
        options["image_size"] = shape[1]
    elif name.startswith("maxvit_"):
        options["input_size"] = tuple(shape[1:])
    elif name in ("googlenet", "inception_v3"):
        options.update(aux_logits=False, init_weights=True)
    with random_states_lock.held(), torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator(seed).get_state())
        try:
            model: nn.Module = torchvision.models.get_model(name, weights=None, **options)
            with torch.no_grad():
                model.eval()(torch.zeros(1, *shape))
        except (RuntimeError, ValueError, AssertionError) as error:
            size = "x".join(map(str, shape))
            raise _checks.bad_value(
                "image", f"suit the model {name}", "a size that it takes", f"{size}: {error}"
            ) from error
    return model.train()
