import keras
from keras import layers, ops


def recurrent_outputs(outputs, directions, time_first):
    """A recurrent layer's sequence and states, with a direction axis: (time, directions, batch, units)."""
    sequence, *states = outputs
    parts = ops.split(sequence, directions, axis=-1)
    each = len(states) // directions
    ends = [[states[d * each + s] for d in range(directions)] for s in range(each)]
    if time_first:
        sequence = ops.stack([ops.transpose(p, (1, 0, 2)) for p in parts], axis=1)
        return (sequence, *(ops.stack(e, axis=0) for e in ends))
    return (ops.stack(parts, axis=2), *(ops.stack(e, axis=1) for e in ends))


def build_model():
    inputs = keras.Input((None,), dtype="int64", name="tokens")
    x = layers.Embedding(1000, 32, name="embedding1")(inputs)
    x = ops.transpose(x, (1, 0, 2))
    _, x, _ = recurrent_outputs(
        layers.Bidirectional(
            layers.LSTM(48, return_sequences=True, return_state=True, name="lstm"),
            name="lstm",
        )(ops.transpose(x, (1, 0, 2))),
        directions=2,
        time_first=True,
    )
    x = ops.transpose(x, (1, 0, 2))
    x = layers.Flatten()(x)
    x = layers.Dropout(0.3)(x)
    x = layers.Dense(4, name="classifier")(x)
    return keras.Model(inputs, x, name="lstm_text")


def train(model, tokens, label):
    model.compile(
        optimizer=keras.optimizers.AdamW(learning_rate=0.002),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(tokens, label, epochs=10, batch_size=64)
