"""infoscreen keeps fleets of digital-signage screens alive."""

__version__ = "0.1.0"
