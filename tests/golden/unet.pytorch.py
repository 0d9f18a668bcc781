import torch
import torch.nn.functional as F
from torch import nn


class DoubleConv(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, x):
        x = self.conv1(x)
        x = F.relu(x)
        x = self.conv2(x)
        return F.relu(x)


class Up(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.grow = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.convs = DoubleConv(in_channels, out_channels)

    def forward(self, relu2, relu2_1):
        relu2 = self.grow(relu2)
        relu2_1 = torch.cat([relu2_1, relu2], dim=1)
        return self.convs(relu2_1)


class Unet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1 = DoubleConv(3, 16)
        self.down2 = DoubleConv(16, 32)
        self.bottom = DoubleConv(32, 64)
        self.up2 = Up(64, 32)
        self.up1 = Up(32, 16)
        self.head = nn.Conv2d(16, 1, 1)

    def forward(self, image):
        image = self.down1(image)
        x = F.max_pool2d(image, 2)
        x = self.down2(x)
        pool = F.max_pool2d(x, 2)
        pool = self.bottom(pool)
        pool = self.up2(pool, x)
        pool = self.up1(pool, image)
        pool = self.head(pool)
        return torch.sigmoid(pool)
