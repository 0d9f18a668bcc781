"""The writing rules of Keras, one family a file; each module registers its rules when it is imported."""
