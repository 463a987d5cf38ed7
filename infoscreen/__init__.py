"""infoscreen keeps fleets of digital-signage screens alive."""

__version__ = "0.2.0"
"""The version of the wheel and of the Debian package; a release is tagged ``v`` and this."""
