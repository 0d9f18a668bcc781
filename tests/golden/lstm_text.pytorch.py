import torch
import torch.nn.functional as F
from torch import nn


class LstmText(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding1 = nn.Embedding(1000, 32)
        self.lstm = nn.LSTM(32, 48, batch_first=True, bidirectional=True)
        self.dropout1 = nn.Dropout(0.3)
        self.classifier = nn.Linear(96, 4)
        self.lstm.bias_hh_l0.requires_grad_(False)
        self.lstm.bias_hh_l0_reverse.requires_grad_(False)

    def forward(self, tokens):
        x = self.embedding1(tokens)
        _, (x, _) = self.lstm(x)
        x = x.transpose(0, 1).flatten(1)
        x = self.dropout1(x)
        return self.classifier(x)


def train(model, tokens, label, epochs=10, batch_size=64):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.002, eps=1e-07, weight_decay=0.004)
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
