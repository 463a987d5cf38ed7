"""QR codes as SVG within a page."""

import io

import segno
from markupsafe import Markup


def qr_code(text: str, title: str, *, error: str = "m") -> Markup:
    """Return the text as a QR code; ``title`` says what it is to who does not see it."""
    drawn = io.BytesIO()
    segno.make(text, error=error, micro=False).save(
        drawn,
        kind="svg",
        xmldecl=False,
        svgclass="qr",
        lineclass=None,
        scale=1,
        border=4,
        title=title,
        dark="#000",
        light="#fff",
        omitsize=True,
    )
    return Markup(drawn.getvalue().decode())
