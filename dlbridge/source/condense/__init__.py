"""Statements as people write them: values nested where they are read, steps as loops, like blocks as one."""
