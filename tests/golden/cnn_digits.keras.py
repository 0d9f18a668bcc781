import keras
from keras import layers


def conv_block(x, filters, name):
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}-conv")(x)
    x = layers.BatchNormalization(epsilon=1e-05, momentum=0.9, name=f"{name}-bn")(x)
    return layers.ReLU()(x)


def build_model():
    inputs = keras.Input((1, 8, 8), name="image")
    x = layers.Permute((2, 3, 1))(inputs)
    x = conv_block(x, 16, name="stem")
    x = conv_block(x, 16, name="body-0")
    x = conv_block(x, 16, name="body-1")
    x = layers.MaxPooling2D(2)(x)
    x = conv_block(x, 32, name="top")
    x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(10, name="fc")(x)
    return keras.Model(inputs, x, name="cnn_digits")


def train(model, image, label):
    model.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(image, label, epochs=5)
