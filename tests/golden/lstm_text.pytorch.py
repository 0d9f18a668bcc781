import torch
from torch import nn


class LstmText(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding1 = nn.Embedding(1000, 32)
        self.lstm = nn.LSTM(32, 48, batch_first=True, bidirectional=True)
        self.dropout1 = nn.Dropout(0.3)
        self.classifier = nn.Linear(96, 4)

    def forward(self, tokens):
        tokens = self.embedding1(tokens)
        _, (tokens, _) = self.lstm(tokens)
        tokens = tokens.transpose(0, 1)
        tokens = tokens.flatten(1)
        tokens = self.dropout1(tokens)
        return self.classifier(tokens)
