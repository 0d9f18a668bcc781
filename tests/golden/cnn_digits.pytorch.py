import torch
import torch.nn.functional as F
from torch import nn


class BiasedVariance:
    """A batch norm whose running variance is the batch's own (biased) one; nn.BatchNorm keeps n / (n - 1) of it."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        before = self.running_var.clone()
        y = super().forward(x)
        count = x.numel() / x.shape[1]
        kept = (1 - self.momentum) * before
        # A new tensor: autograd holds on to the one that the forward pass has used.
        self.running_var = kept + (self.running_var - kept) * (count - 1) / count
        return y


class BiasedBatchNorm2d(BiasedVariance, nn.BatchNorm2d):
    """nn.BatchNorm2d with a biased running variance."""


class ConvBlock(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn = BiasedBatchNorm2d(out_channels)

    def forward(self, x):
        x = self.conv(x)
        x = self.bn(x)
        return F.relu(x)


class CnnDigits(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = ConvBlock(1, 16)
        self.body = nn.Sequential(ConvBlock(16, 16), ConvBlock(16, 16))
        self.top = ConvBlock(16, 32)
        self.fc = nn.Linear(128, 10)

    def forward(self, image):
        x = self.stem(image)
        x = self.body(x)
        x = F.max_pool2d(x, 2)
        x = self.top(x)
        x = F.max_pool2d(x, 2).flatten(1)
        return self.fc(x)


def train(model, image, label, epochs=5, batch_size=32):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001, eps=1e-07)
    model.train()
    for epoch in range(epochs):
        for rows in torch.randperm(len(label)).split(batch_size):
            optimizer.zero_grad()
            output = model(image[rows])
            loss = F.cross_entropy(output, label[rows])
            loss.backward()
            optimizer.step()
        accuracy = (output.argmax(1) == label[rows]).float().mean()
        print(f"epoch {epoch + 1}: loss {loss.item():.4f}", f"accuracy {accuracy.item():.4f}")
    model.eval()
