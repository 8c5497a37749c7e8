"""``Inputs``: what a layer takes, channel by channel: what varies, and what is constant.

What is left of a network must follow from its masks and its kinds of layers alone, so that it is
known before training, and is the same after it. So a constant counts as other than 0 wherever
training may make it so, by a bias say, whatever number it is now.
"""

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
        shifts: Whether each is a constant that may be other than 0, by the layers before it.
        channel: The channel that each is a part of.
        live: The inputs that must be there for the same function; of each channel all or none.
        share: Where zeros are put around the inputs, constants that may be other than 0 as shares
            of the largest one, which stands in for them (see ``padded``); else None.
        stand_in: Its place.
    """

    varies: Mask
    constant: Tensor
    shifts: Mask
    channel: NDArray[np.int64]
    live: Mask = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    share: Tensor | None = None
    stand_in: int = 0

    @classmethod
    def of(cls, varies: Mask, constant: Tensor, shifts: Mask) -> Inputs:
        """Return channels with these properties."""
        return cls(varies, constant, shifts, np.arange(len(varies))).mapped(constant)

    def mapped(self, constant: Tensor, *, shifts: bool = False) -> Inputs:
        """Return the same inputs with other constants; of those that vary 0.

        Args:
            constant: The constants (n,).
            shifts: Whether constants of 0 may have become others too.
        """
        varies = torch.from_numpy(self.varies).to(constant.device)
        constant = constant.masked_fill(varies, 0)
        may = ~self.varies & (self.shifts | shifts | (constant != 0).cpu().numpy())
        return Inputs(self.varies, constant, may, self.channel)

    def as_features(self, n: int) -> Inputs:
        """Return these channels as the n features that they are once flattened, if they are.

        What a channel sends it sends from each of its places, one feature after the other.
        """
        if n == len(self.varies):
            return self
        each = n // len(self.varies)
        constant = self.constant.repeat_interleave(each)
        varies, shifts = np.repeat(self.varies, each), np.repeat(self.shifts, each)
        return Inputs(varies, constant, shifts, np.repeat(self.channel, each))

    def at_borders(self) -> Inputs:
        """Return what they are where zeros surround them: constants other than 0 vary."""
        return Inputs.of(self.varies | self.shifts, self.constant, self.shifts)

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
        though it is empty: its bias makes c_m. It stays where all constants happen to be 0, too:
        what is left follows from the masks, not from the numbers that training gives.
        """
        if not self.shifts.any():
            return self
        able = torch.from_numpy(self.shifts).to(self.constant.device)
        largest = int(self.constant.abs().masked_fill(~able, -1).argmax())
        varies = self.varies.copy()
        varies[largest] = True
        share = torch.zeros_like(self.constant)
        if bool(self.constant[largest] != 0):
            share = self.constant / self.constant[largest]
        share[largest] = 1
        known = torch.zeros_like(share)
        return Inputs(varies, known, self.shifts, self.channel, share=share, stand_in=largest)

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
