import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query = nn.Linear(64, 64)
        self.key = nn.Linear(64, 64)
        self.value = nn.Linear(64, 64)
        self.out = nn.Linear(64, 64)

    def forward(self, x):
        query = self.query(x)
        key = self.key(x)
        x = self.value(x)
        x = F.scaled_dot_product_attention(
            query.unflatten(-1, (4, -1)).transpose(1, 2),
            key.unflatten(-1, (4, -1)).transpose(1, 2),
            x.unflatten(-1, (4, -1)).transpose(1, 2),
        ).transpose(1, 2).flatten(2)
        return self.out(x)


class EncoderBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(64)
        self.attention = Attention()
        self.norm2 = nn.LayerNorm(64)
        self.fc1 = nn.Linear(64, 256)
        self.fc2 = nn.Linear(256, 64)

    def forward(self, x):
        attended = x + self.attention(self.norm1(x))
        x = self.norm2(attended)
        x = self.fc1(x)
        x = F.gelu(x)
        return attended + self.fc2(x)


class TransformerEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(1000, 64)
        self.blocks = nn.Sequential(EncoderBlock(), EncoderBlock())
        self.norm = nn.LayerNorm(64)
        self.classifier = nn.Linear(64, 4)
        self.positions = nn.Parameter(torch.empty((128, 64)))

    def forward(self, tokens):
        x = self.embedding(tokens)
        positions_here = self.positions[:tokens.shape[1]]
        x = x + positions_here
        x = self.blocks(x)
        x = self.norm(x)
        x = x.mean(1)
        return self.classifier(x)


def train(model, tokens, label, epochs=10, batch_size=32):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.001, eps=1e-07, weight_decay=0.004)
    model.train()
    for epoch in range(epochs):
        for rows in torch.randperm(len(label)).split(batch_size):
            optimizer.zero_grad()
            output = model(tokens[rows])
            loss = F.cross_entropy(output, label[rows])
            loss.backward()
            optimizer.step()
        accuracy = (output.argmax(1) == label[rows]).float().mean()
        print(f"epoch {epoch + 1}: loss {loss.item():.4f}", f"accuracy {accuracy.item():.4f}")
    model.eval()
