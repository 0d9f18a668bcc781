"""Code as a tree, which rules make and printers lay out."""
