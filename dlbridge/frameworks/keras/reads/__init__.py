"""Reading rules: one a Keras layer or ``keras.ops`` operation, in families.

A rule is a function ``Site -> value | nested values`` under ``@layer("Dense")`` or ``@operation("Matmul")``. What it
gives has the shape and the order of axes that Keras' result has.
"""
