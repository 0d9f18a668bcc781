import keras
from keras import layers, ops


def double_conv(x, filters, name):
    x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"{name}-conv1")(x)
    return layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"{name}-conv2")(x)


def up(x, down, filters, name):
    x = layers.Conv2DTranspose(filters, 2, strides=2, name=f"{name}-grow")(x)
    x = ops.concatenate([down, x], axis=3)
    return double_conv(x, filters, name=f"{name}-convs")


def build_model():
    inputs = keras.Input((3, 32, 32), name="image")
    x = layers.Permute((2, 3, 1))(inputs)
    down1 = double_conv(x, 16, name="down1")
    x = layers.MaxPooling2D(2)(down1)
    down2 = double_conv(x, 32, name="down2")
    x = layers.MaxPooling2D(2)(down2)
    x = double_conv(x, 64, name="bottom")
    x = up(x, down2, 32, name="up2")
    x = up(x, down1, 16, name="up1")
    x = layers.Conv2D(1, 1, activation="sigmoid", name="head")(x)
    x = layers.Permute((3, 1, 2))(x)
    return keras.Model(inputs, x, name="unet")


def train(model, image, label):
    model.compile(optimizer="adam", loss="binary_crossentropy")
    model.fit(image, label, epochs=5, batch_size=8)
