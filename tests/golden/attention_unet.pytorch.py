import torch
import torch.nn.functional as F
from torch import nn


class ResidualBlock(nn.Module):
    def __init__(self, num_channels, out_channels, has_shortcut=False):
        super().__init__()
        self.norm1 = nn.GroupNorm(2, num_channels)
        self.conv1 = nn.Conv2d(num_channels, out_channels, 3, padding=1)
        self.time = nn.Linear(8, out_channels)
        self.shortcut = nn.Conv2d(num_channels, out_channels, 1) if has_shortcut else nn.Identity()
        self.norm2 = nn.GroupNorm(2, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, x, time):
        y = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(time)).unsqueeze(2).unsqueeze(3)
        x = self.shortcut(x)
        out = self.norm2(y)
        out = F.silu(out)
        return x + self.conv2(out)


class SpatialAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.GroupNorm(2, 8)
        self.qkv = nn.Conv2d(8, 24, 1)
        self.out = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        out = self.norm(x)
        out = self.qkv(out).flatten(2).transpose(1, 2)
        q, k, v = out.chunk(3, dim=2)
        y = F.scaled_dot_product_attention(q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0))
        return x + self.out(y.flatten(0, 1).transpose(1, 2).unflatten(2, (4, 4)))


class AttentionUNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(1, 8), nn.SiLU(), nn.Linear(8, 8))
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.down1 = ResidualBlock(4, 4)
        self.downsample = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.down2 = ResidualBlock(4, 8, has_shortcut=True)
        self.attention = SpatialAttention()
        self.middle = ResidualBlock(8, 8)
        self.up1 = ResidualBlock(12, 4, has_shortcut=True)
        self.head = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, image, step):
        time = self.time(step)
        x = self.stem(image)
        skip = self.down1(x, time)
        x = self.downsample(skip)
        x = self.down2(x, time)
        x = self.attention(x)
        x = self.middle(x, time)
        x = F.interpolate(x, scale_factor=2)
        x = torch.cat([x, skip], dim=1)
        x = self.up1(x, time)
        return self.head(x)
