"""Adding a device: an account at the broker as a file or QR code, or a one-time code. For admins."""

from typing import Annotated, Literal

from aiohttp import web

from infoscreen.domain.accounts import Role
from infoscreen.domain.codes import Fact
from infoscreen.domain.enrolment import NewDevice
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import InvalidInput, Refused
from infoscreen.services.enrolling import IssuedCode
from infoscreen.web.api.enrolment import require_privacy
from infoscreen.web.api.identifiers import canonical
from infoscreen.web.keys import parts_of
from infoscreen.web.origin import is_https
from infoscreen.web.panel.forms import Form, Line, Optional
from infoscreen.web.panel.language import language_of
from infoscreen.web.panel.qr import qr_code
from infoscreen.web.panel.rendering import page
from infoscreen.web.registry import Route, actor_of, read_form
from infoscreen.words.language import N_
from infoscreen.words.speaking import say

ADDRESS = "/devices/new"


class DeviceForm(Form):
    """A device to be added; ``give`` is how its account is handed over."""

    uuid: Annotated[Line | None, Optional] = None
    replace: Literal["yes"] | None = None
    give: Literal["page", "file", "code"] = "page"


async def get_device(request: web.Request) -> web.StreamResponse:
    """Show the form."""
    return await _form(request, DeviceForm())


async def post_device(request: web.Request) -> web.StreamResponse:
    """Add a device and show, this once, what it needs."""
    try:
        form = await read_form(request, DeviceForm)
    except InvalidInput:
        return await _form(request, DeviceForm(), Fact(ErrorCode.NOT_A_UUID), 422)
    try:
        uuid = None if form.uuid is None else canonical(form.uuid)
    except ValueError:
        return await _form(request, form, Fact(ErrorCode.NOT_A_UUID), 422)
    enrolling, actor, replace = parts_of(request).enrolling, actor_of(request), form.replace == "yes"
    try:
        require_privacy(request)
        if form.give == "code":
            (code,) = await enrolling.issue([uuid], actor, replace=replace)
            return await _code_page(request, code)
        device = await enrolling.add(uuid, actor, replace=replace)
    except Refused as refusal:
        return await _form(request, form, refusal.fact, refusal.status)
    return _download(device) if form.give == "file" else await _device_page(request, device)


async def _form(
    request: web.Request, form: DeviceForm, fault: Fact[ErrorCode] | None = None, status: int = 200
) -> web.StreamResponse:
    return await page(
        request,
        "device_new.html",
        status=status,
        here="device_new",
        form=form,
        fault=None if fault is None else say(fault, language_of(request)),
        has_codes=parts_of(request).enrolling.has_codes,
    )


async def _device_page(request: web.Request, device: NewDevice) -> web.StreamResponse:
    qr = qr_code(device.file, language_of(request).gettext(_QR_TITLE), error="l")
    return await page(request, "device_added.html", here="clients", device=device, qr=qr, code=None)


async def _code_page(request: web.Request, code: IssuedCode) -> web.StreamResponse:
    scheme = "https" if is_https(request) else request.scheme
    server = parts_of(request).config.public_origin or f"{scheme}://{request.host}"
    return await page(
        request, "device_added.html", here="clients", device=None, qr=None, code=code, server=server
    )


def _download(device: NewDevice) -> web.Response:
    return web.Response(
        text=device.file,
        content_type="application/octet-stream",
        headers={"Content-Disposition": f'attachment; filename="{device.uuid}.enrol"'},
    )


_QR_TITLE = N_("QR code with the account of the client")

ROUTES = (
    Route("GET", ADDRESS, get_device, Role.ADMIN, "Form to add a client", html=True),
    Route(
        "POST",
        ADDRESS,
        post_device,
        Role.ADMIN,
        "Add a client",
        request=DeviceForm,
        html=True,
        manages_accounts=True,
    ),
)
