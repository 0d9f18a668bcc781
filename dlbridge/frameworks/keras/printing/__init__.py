"""From nodes to text: functions, layers and ``build_model``, the names and weights of what is written."""
