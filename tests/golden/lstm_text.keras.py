import keras
from keras import layers


def build_model():
    inputs = keras.Input((None,), dtype="int64", name="tokens")
    x = layers.Embedding(1000, 32, name="embedding1")(inputs)
    x = layers.Bidirectional(layers.LSTM(48, name="lstm"), name="lstm")(x)
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
