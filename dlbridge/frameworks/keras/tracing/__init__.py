"""The code of layers runs on tensors without numbers, which record what it calls and what it asks of sizes."""
