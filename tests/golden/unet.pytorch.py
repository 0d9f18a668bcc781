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

    def forward(self, x, down):
        x = self.grow(x)
        x = torch.cat([down, x], dim=1)
        return self.convs(x)


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
        down1 = self.down1(image)
        x = F.max_pool2d(down1, 2)
        down2 = self.down2(x)
        x = F.max_pool2d(down2, 2)
        x = self.bottom(x)
        x = self.up2(x, down2)
        x = self.up1(x, down1)
        x = self.head(x)
        return torch.sigmoid(x)


def train(model, image, label, epochs=5, batch_size=8):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001, eps=1e-07)
    model.train()
    for epoch in range(epochs):
        for rows in torch.randperm(len(label)).split(batch_size):
            optimizer.zero_grad()
            output = model(image[rows])
            loss = F.binary_cross_entropy(output, label[rows].type_as(output))
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.4f}")
    model.eval()
