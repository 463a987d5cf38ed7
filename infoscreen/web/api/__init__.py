"""JSON endpoints, one module per noun; each exports its ``ROUTES``."""
