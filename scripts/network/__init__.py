"""The bundled network: how it was trained (``train``), and how it is judged (``evaluate``)."""
