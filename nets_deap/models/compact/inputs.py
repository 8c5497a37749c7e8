"""``Inputs``: what a layer takes, channel by channel: what varies, and what is constant."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nets_deap.models.tensors import Mask


@dataclass(eq=False)
class Inputs:
    """What a layer takes: n inputs, which are channels, or features once these are flattened.

    Attributes:
        varies: Whether each depends on what the network is given, or on its place in an image.
        constant: The value of each where it does not vary, else 0; float64, shape (n,).
        channel: The channel that each is a part of.
        live: The inputs that must be there for the same function; of each channel all or none.
        share: Where zeros are put around the inputs, constants other than 0 as shares of the
            largest one, which stands in for them (see ``padded``); else None.
        stand_in: Its place.
    """

    varies: Mask
    constant: Tensor
    channel: NDArray[np.int64]
    live: Mask = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    share: Tensor | None = None
    stand_in: int = 0

    @classmethod
    def of(cls, varies: Mask, constant: Tensor) -> Inputs:
        """Return channels with these properties."""
        return cls(varies, constant, np.arange(len(varies))).mapped(constant)

    def mapped(self, constant: Tensor) -> Inputs:
        """Return the same inputs with other constants; of those that vary 0."""
        varies = torch.from_numpy(self.varies).to(constant.device)
        return Inputs(self.varies, constant.masked_fill(varies, 0), self.channel)

    def as_features(self, n: int) -> Inputs:
        """Return these channels as the n features that they are once flattened, if they are.

        What a channel sends it sends from each of its places, one feature after the other.
        """
        if n == len(self.varies):
            return self
        each = n // len(self.varies)
        constant = self.constant.repeat_interleave(each)
        return Inputs(np.repeat(self.varies, each), constant, np.repeat(self.channel, each))

    def at_borders(self) -> Inputs:
        """Return what they are where zeros surround them: constants other than 0 vary."""
        return Inputs.of(self.varies | (self.constant != 0).cpu().numpy(), self.constant)

    def padded(self) -> Inputs:
        """Return what a convolution takes that puts zeros around them.

        Without a border, an input channel i of constant value c_i sends an output o the same
        number everywhere, c_i * sum_k W[o, i, k], which goes into the bias. With a border of
        zeros it does not: at a place p only those places k of the kernel count that lie inside
        of the image. What it sends there is

            c_i * (W[o, i] * 1)(p),    1 = the image of ones with zeros around it,  * = convolve,

        a picture that is not constant, so that no bias can replace it. But it is linear in the
        kernel and the image is the same for all channels, so one of them, m, can send it all:

            sum_i c_i (W[o, i] * 1) = c_m (W'[o, m] * 1),    W'[o, m] = sum_i (c_i / c_m) W[o, i].

        That is exact for any m with c_m != 0; the largest |c_m| keeps the shares c_i / c_m at most
        1, so that rounding does not grow. Channel m then counts as varying (what it sends differs
        from place to place) and the others as 0. Its filter must stay in the layer before, even
        though it is empty: its bias makes c_m.
        """
        if not bool((self.constant != 0).any()):
            return self
        largest = int(self.constant.abs().argmax())
        varies = self.varies.copy()
        varies[largest] = True
        share = self.constant / self.constant[largest]
        known = torch.zeros_like(share)
        return Inputs(varies, known, self.channel, share=share, stand_in=largest)

    def keep(self, needed: Mask, least: int) -> Mask:
        """Note which inputs are live, by those that are needed, and return the live channels.

        A channel is whole or gone: it lives if any feature of it is needed.

        Args:
            needed: Of the inputs, bool (n,).
            least: Channels to keep at least, 0 or 1.
        """
        channels: Mask = np.bincount(self.channel, weights=needed) > 0
        if least and not channels.any():
            channels[0] = True
        self.live = channels[self.channel]
        return channels

    @property
    def live_channels(self) -> Mask:
        """Which channels are live."""
        found: Mask = np.zeros(int(self.channel[-1]) + 1, dtype=np.bool_)
        found[self.channel[self.live]] = True
        return found
