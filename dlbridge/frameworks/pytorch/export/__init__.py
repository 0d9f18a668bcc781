"""From a live module to an exported program: how it is called, traced and tried at other sizes."""
