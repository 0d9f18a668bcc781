import torch
import torch.nn.functional as F
from torch import nn


class Mlp784(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(784, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, image):
        image = self.fc1(image)
        image = F.relu(image)
        image = self.fc2(image)
        return F.softmax(image, dim=-1)
