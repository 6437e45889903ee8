"""What tests of transports and servers share: HTTP on loopback, and waiting without guessing how long."""

import asyncio
import contextlib
import ssl
import time

import httpx
from aiohttp import web

_TLS = ssl.create_default_context()  # unused on loopback; made once, since making it takes most of a test's time


def http_client():
    return httpx.AsyncClient(verify=_TLS)


@contextlib.asynccontextmanager
async def serving(*routes):
    """Serve these routes; yields the URL."""
    application = web.Application()
    application.add_routes(routes)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def until(is_so, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.005)
