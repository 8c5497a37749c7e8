"""ResNet-20 for small images."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets_deap import _checks
from nets_deap.models.convolutional import generator


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation, and the input added to what they give.

    Where the block halves the image and widens it, the input is taken at every second pixel and
    filled up with channels of zeros: no weights on the shortcut.

    Args:
        n_in: Channels of the input.
        n_out: Channels of the output, at least as many.
        stride: 1, or 2 to halve height and width.
    """

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.stride, self.more = stride, n_out - n_in

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, n_in, H, W) to (B, n_out, H / stride, W / stride)."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.more:
            x = F.pad(x, (0, 0, 0, 0, self.more // 2, self.more - self.more // 2))
        return F.relu(y + x)


@_checks.signed
class ResNet(nn.Module):
    """The residual network of 6 n + 2 layers for images of 32x32: 16, 32, 64 channels.

    Args:
        n: Blocks in each of the three stages, >= 1; 3 for ResNet-20.
        channels: Of the images.
        classes: Outputs.
        seed: Seed of the initial weights (Gaussian, variance 2 / fan out); the global random state
            stays untouched.

    Reference:
        He et al. 2016, Deep residual learning for image recognition, section 4.2.
    """

    def __init__(self, n: int = 3, *, channels: int = 3, classes: int = 10, seed: int = 0) -> None:
        super().__init__()
        _checks.whole("n", n)
        draw = generator(seed)
        with torch.random.fork_rng(devices=[]):  # the layers draw weights that are drawn again
            self.conv = nn.Conv2d(_checks.whole("channels", channels), 16, 3, padding=1, bias=False)
            self.bn = nn.BatchNorm2d(16)
            blocks, width = [], 16
            for stage, wider in enumerate((16, 32, 64)):
                for i in range(n):
                    blocks.append(BasicBlock(width, wider, 2 if stage and not i else 1))
                    width = wider
            self.blocks = nn.Sequential(*blocks)
            self.linear = nn.Linear(64, _checks.whole("classes", classes))
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    fan = module.out_channels * module.weight[0, 0].numel()
                    module.weight.normal_(0.0, math.sqrt(2 / fan), generator=draw)
            self.linear.weight.normal_(0.0, math.sqrt(1 / 64), generator=draw)
            self.linear.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, channels, H, W) to outputs (B, classes)."""
        x = self.blocks(F.relu(self.bn(self.conv(x))))
        output: Tensor = self.linear(x.mean((2, 3)))
        return output


@_checks.signed
def resnet20(*, channels: int = 3, classes: int = 10, seed: int = 0) -> ResNet:
    """Return ResNet-20: 0.27 million weights."""
    return ResNet(3, channels=channels, classes=classes, seed=seed)
