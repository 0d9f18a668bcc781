import torch
import torch.nn.functional as F
from torch import nn


class Mlp784(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(784, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, image):
        x = self.fc1(image)
        x = F.relu(x)
        x = self.fc2(x)
        return F.softmax(x, dim=-1)


def train(model, image, label, epochs=5, batch_size=32):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001, eps=1e-07)
    model.train()
    for epoch in range(epochs):
        for rows in torch.randperm(len(label)).split(batch_size):
            optimizer.zero_grad()
            output = model(image[rows])
            loss = F.nll_loss(output.clamp(min=1e-07).log(), label[rows])
            loss.backward()
            optimizer.step()
        accuracy = (output.argmax(-1) == label[rows]).float().mean()
        print(f"epoch {epoch + 1}: loss {loss.item():.4f}", f"accuracy {accuracy.item():.4f}")
    model.eval()
