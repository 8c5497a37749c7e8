"""Networks as people write them, for tests of what is cut out of them."""

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, n_in, n_out, **options):
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False, **options)
        self.norm = nn.BatchNorm2d(n_out)

    def forward(self, x):
        return F.relu(self.norm(self.conv(x)))


class Plain(nn.Module):
    """It names a size of its own."""

    def __init__(self):
        super().__init__()
        self.one, self.two = Block(1, 4), Block(4, 6)
        self.three, self.four = nn.Linear(6 * 4 * 4, 10), nn.Linear(10, 3)

    def forward(self, x):
        x = F.max_pool2d(self.two(F.max_pool2d(self.one(x), 2)), 2).view(-1, 6 * 4 * 4)
        return self.four(torch.relu(self.three(x)))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = Block(3, 6)
        self.one = nn.Sequential(Block(6, 5), nn.Conv2d(5, 6, 3, padding=1))
        self.two = nn.Sequential(Block(6, 4), nn.Conv2d(4, 6, 1))
        self.down, self.three = nn.Conv2d(6, 8, 1, stride=2), Block(6, 8, stride=2)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.one(x)
        x = F.relu(x + self.two(x))
        return self.out((self.down(x) + self.three(x)).mean((2, 3)))


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        widths = (4, 7, 10)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(n), nn.ReLU(), nn.Conv2d(n, 3, 3, padding=1))
            for n in widths
        )
        self.out = nn.Linear(13, 3)

    def forward(self, x):
        found = [self.stem(x)]
        for layer in self.layers:
            found.append(layer(torch.cat(found, 1)))
        return self.out(F.adaptive_avg_pool2d(torch.cat(found, 1), 1).flatten(1))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.middle = Block(1, 4), Block(4, 6), Block(6, 8)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.last = nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1)
        self.three, self.four, self.out = Block(12, 6), Block(8, 4), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        a = self.one(x)
        b = self.two(F.max_pool2d(a, 2))
        c = self.up(self.middle(F.max_pool2d(b, 2)))
        d = self.last(self.three(torch.cat([c, b], 1)))
        if d.shape != a.shape:
            d = F.pad(d, (0, a.shape[3] - d.shape[3], 0, a.shape[2] - d.shape[2]))
        return self.out(self.four(torch.cat([d, a], 1)))


class Depthwise(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = Block(3, 4)
        self.deep, self.norm = nn.Conv2d(4, 8, 3, padding=1, groups=4), nn.BatchNorm2d(8)
        self.wide, self.out = nn.Conv2d(8, 6, 1), nn.Linear(6, 3)

    def forward(self, x):
        x = F.relu6(self.norm(self.deep(self.stem(x))))
        return self.out(torch.flatten(F.adaptive_avg_pool2d(F.relu6(self.wide(x)), (1, 1)), 1))


class Grouped(nn.Module):
    """Grouped convolutions, group normalisation, squeeze and excitation."""

    def __init__(self):
        super().__init__()
        self.one, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(4, 8)
        self.two, self.again = nn.Conv2d(8, 8, 3, padding=1, groups=4), nn.GroupNorm(4, 8)
        self.squeeze, self.excite = nn.Conv2d(8, 3, 1), nn.Conv2d(3, 8, 1)
        self.three, self.out = nn.Conv2d(8, 6, 3), nn.Linear(6, 3)

    def forward(self, x):
        x = F.silu(self.again(self.two(F.silu(self.norm(self.one(x))))))
        x = x * torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.out(F.relu(self.three(x)).amax((2, 3)))


class Shuffled(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.out = Block(3, 8), Block(4, 4), nn.Linear(8, 3)

    def forward(self, x):
        a, b = self.one(x).chunk(2, dim=1)
        x = torch.cat([a, self.two(b)], 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.out(x.mean((2, 3)))


class Heads(nn.Module):
    """Attention as people write it themselves."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.inner, self.outer = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        n, places, width = x.shape
        parts = self.inner(x).reshape(n, places, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5).softmax(-1)
        return self.outer((scores @ v).transpose(1, 2).reshape(n, places, width))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches, self.places = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.randn(1, 16, 8))
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(3))
        self.attention = Heads(8, 4)
        self.mlp = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2) + self.places
        x = x + self.attention(self.norms[0](x))
        x = x + self.mlp(self.norms[1](x))
        return self.out(self.norms[2](x).mean(1))


class Encoder(nn.Module):
    """Attention of torch's."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 4, 12, batch_first=True)
        self.into, self.out = nn.Linear(5, 8), nn.Linear(8, 3)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x):
        return self.out(self.encoder(self.into(x)).mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv1d(4, 6, 5, padding=2), nn.Conv1d(6, 8, 5, padding=2)
        self.gru, self.out = nn.GRU(8, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        x = F.relu(self.two(F.max_pool1d(F.relu(self.one(x)), 2)))
        return self.out(self.gru(x.transpose(1, 2))[1][-1])


class Scaled(nn.Module):
    """Parameters of its own, a number for each channel."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.out = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 1), nn.Linear(6, 3)
        self.scale, self.shift = (
            nn.Parameter(torch.randn(6)),
            nn.Parameter(torch.randn(1, 6, 1, 1)),
        )

    def forward(self, x):
        x = self.one(x)
        x = x + self.scale[:, None, None] * self.two(F.gelu(x + self.shift))
        return self.out(x.flatten(2).max(2).values)


# The network, the shape of an input, and whether what is left of it is of its own class:
# None where that depends on which halves of its channels go.
NETWORKS = {
    "plain": (Plain, (1, 16, 16), False),
    "residual": (Residual, (3, 8, 8), True),
    "dense": (Dense, (3, 8, 8), True),
    "unet": (UNet, (1, 8, 8), True),
    "depthwise": (Depthwise, (3, 8, 8), True),
    "grouped": (Grouped, (3, 8, 8), True),
    "shuffled": (Shuffled, (3, 8, 8), None),
    "transformer": (Transformer, (3, 16, 16), False),
    "encoder": (Encoder, (9, 5), True),
    "recurrent": (Recurrent, (4, 12), True),
    "scaled": (Scaled, (3, 8, 8), True),
}
