"""Short functions over arrays for what frameworks have no single call for, written once.

They call functions of arrays as ``ops``, by their names in ``keras.ops``, and each other; a writer copies those that a
model uses into the printed file, spelled as its framework spells them (``source.arrays.spelling``). What a framework
must have a helper of its own for is called as ``ops`` too: ``split_heads``, ``merge_heads``, ``precise``; and what it
says in a form of its own: ``places(n, x)``, the numbers below n as indices beside x; ``as_index(x)``, x as indices;
``number(n, x.dtype)``, a number as x has them; ``is_boolean(x)``.
"""
