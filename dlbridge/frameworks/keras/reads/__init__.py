"""Reading rules: one a Keras layer or ``keras.ops`` operation, in families.

A rule is a function ``CallSite -> value | nested values`` under ``@layer("Dense")`` or ``@operation("Matmul")``. Its
result has the shape and the order of axes of Keras' result.
"""
