"""The reading rules: what each ATen op is in the neutral form, in families."""
