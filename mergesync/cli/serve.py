"""`mergesync serve`: a server until a signal ends it."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import os
import signal
import time
from contextlib import AsyncExitStack, suppress
from typing import Any, Final

from mergesync.cli.common import FAILED, OK, USAGE, CliError, printable
from mergesync.cli.hooks import HooksFile
from mergesync.cli.logs import log, log_error, start_logging
from mergesync.cli.storage import Persisters, Storage, opened
from mergesync.limits import Limits
from mergesync.net.gateway import Gateway
from mergesync.net.listening import ListeningWsServer, create_ws_server
from mergesync.net.switchboard import CLOSE_RESTART
from mergesync.net.tls import Certificate, TlsFiles
from mergesync.rooms.access import ClientInfo
from mergesync.version import VERSION

__all__ = ["GATEWAYS", "serve"]

GATEWAYS: Final = ("message_broker", "room_server", "state_sync", "wsss")
"""What `--gateway` knows; loaded only if it is asked for."""

_STOP_SECONDS: Final = 60.0
"""More than all attempts to save on closing can take, and less than the patience of service managers."""

_SAME_SIGNAL_SECONDS: Final = 0.5
"""A signal may come twice, to the process group and passed on by make: within this time that is one signal."""

_EVERYWHERE: Final = {"": "localhost", "0.0.0.0": "localhost", "::": "localhost"}


async def serve(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; then store everything, and tell the clients to come back.

    Returns:
        0, or 1 if something could not be stored in the end.
    """
    if arguments.gateway and arguments.relay:
        raise CliError("--gateway needs a store for each path, which a --relay has not", USAGE)
    if arguments.create == "server" and arguments.hooks is None:
        raise CliError("--create server needs --hooks with a `setup` that makes paths", USAGE)
    hooks = None if arguments.hooks is None else HooksFile(arguments.hooks)
    start_logging()
    stopping = _catch_signals()
    storage: Storage = arguments.persist
    keeper = _Keeper(storage.persisters(on_ignored_error=log_error))
    tls = _tls_files(arguments.tls_cert, arguments.tls_key)
    async with AsyncExitStack() as stack:
        if keeper.persisters is not None:
            await stack.enter_async_context(opened(keeper.persisters))
        server = await _listen(arguments, tls, keeper, hooks)
        if tls is not None:
            _reload_on_hangup(server)
        try:
            if hooks is not None:
                await hooks.set_up(server)
            address = _address(arguments.host, server.port, secure=tls is not None)
            _announce(address, storage)
            log("server.listening", address=address, persist=storage.kind, place=storage.place or None)
            reason = await stopping
            log("server.stopping", signal=reason)
            since = time.monotonic()
        finally:
            await _stop(server)
    log("server.stopped", seconds=f"{time.monotonic() - since:.3f}", everything_stored=not keeper.lost)
    return FAILED if keeper.lost else OK


async def _stop(server: ListeningWsServer) -> None:
    """Destroy the server; should that never end, end the process: what is unsaved then would never be saved either."""
    destruction = asyncio.ensure_future(server.destroy(CLOSE_RESTART, "restart"))
    if not (await asyncio.wait([destruction], timeout=_STOP_SECONDS))[0]:
        log("server.stuck", level=logging.ERROR, seconds=_STOP_SECONDS)
        os._exit(FAILED)
    await destruction


def _catch_signals() -> asyncio.Future[str]:
    """The first signal ends the server; a second one ends the process, whatever it is doing."""
    loop = asyncio.get_running_loop()
    stopping: asyncio.Future[str] = loop.create_future()
    since = 0.0

    def stop(number: signal.Signals) -> None:
        nonlocal since
        if not stopping.done():
            since = loop.time()
            stopping.set_result(number.name)
        elif loop.time() - since > _SAME_SIGNAL_SECONDS:
            log("server.killed", level=logging.WARNING, signal=number.name)
            os._exit(FAILED)

    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, stop, number)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda n, _: loop.call_soon_threadsafe(stop, signal.Signals(n)))
    return stopping


def _tls_files(certificate: str | None, key: str | None) -> TlsFiles | None:
    if certificate is None:
        if key is not None:
            raise CliError("--tls-key needs --tls-cert", USAGE)
        return None
    files = certificate if key is None else (certificate, key)
    try:
        Certificate(files)
    except (OSError, ValueError) as error:
        raise CliError(f"cannot use the TLS certificate {printable(certificate)}: {printable(str(error))}") from error
    return files


def _reload_on_hangup(server: ListeningWsServer) -> None:
    """SIGHUP has the certificate read again, as whatever renews it can say."""

    def reload() -> None:
        try:
            server.reload_certificate()
        except (OSError, ValueError) as error:
            log("server.certificate", level=logging.ERROR, error=str(error))
        else:
            log("server.certificate")

    with suppress(NotImplementedError, AttributeError):  # Windows
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)


async def _listen(
    arguments: argparse.Namespace, tls: TlsFiles | None, keeper: _Keeper, hooks: HooksFile | None
) -> ListeningWsServer:
    options: dict[str, Any] = {} if hooks is None else {**hooks.hooks, "lives": keeper.persisters is not None}
    try:
        server = await create_ws_server(
            arguments.host,
            arguments.port,
            None if keeper.persisters is None else keeper,
            tls=tls,
            relay=arguments.relay,
            gateways=_gateways(arguments.gateway),
            presence=arguments.presence,
            create=arguments.create,
            idle_grace_seconds=arguments.idle_grace,
            origins=arguments.allow_origin,
            trusted_proxies=arguments.trust_proxy,
            limits=Limits(**dict(arguments.limit)),
            on_connection=_on_connection,
            on_ignored_error=log_error,
            **options,
        )
    except OSError as error:
        what = os.strerror(error.errno) if error.errno and error.errno > 0 else printable(error.strerror or str(error))
        raise CliError(f"cannot listen on {printable(arguments.host)} port {arguments.port}: {what}") from error
    except ValueError as error:  # hooks that a relay cannot have
        raise CliError(printable(str(error)), USAGE) from error
    server.add_path_ids_listener(_on_path)
    server.add_client_ids_listener(None, _on_client)
    return server


def _gateways(wanted: list[tuple[str, str]]) -> dict[str, Gateway]:
    if not wanted:
        return {}
    gateways = importlib.import_module("mergesync.gateways")
    return {prefix: getattr(gateways, name)() for prefix, name in wanted}


def _address(host: str, port: int, *, secure: bool) -> str:
    host = _EVERYWHERE.get(host, host)
    return f"{'wss' if secure else 'ws'}://{f'[{host}]' if ':' in host else host}:{port}"


def _announce(address: str, storage: Storage) -> None:
    print(
        f"mergesync {VERSION} serves {address}/ and every path below it\n"
        f"data:        {storage}\n"
        f'Python:      async with create_ws_synchronizer(MergeableStore(), "{address}/petShop"): ...\n'
        f'JavaScript:  const socket = new WebSocket("{address}/petShop");\n'
        f"             await (await createWsSynchronizer(createMergeableStore(), socket)).startSync();\n"
        f"terminal:    mergesync watch {address}/petShop\n"
        f"stop:        Ctrl-C",
        flush=True,
    )


# --- the log


def _on_connection(info: ClientInfo) -> None:
    address = info.remote_address
    if isinstance(address, tuple | list):
        address = ":".join(map(str, address[:2]))
    log("client.connected", path=info.path_id, client=info.client_id, address=address, channels=info.multiplexed)


def _on_path(_: object, path_id: str, change: int) -> None:
    log("path.opened" if change > 0 else "path.left", path=path_id)


def _on_client(_: object, path_id: str, client_id: str, change: int) -> None:
    log("client.joined" if change > 0 else "client.left", path=path_id, client=client_id)


# --- persisters


class _Keeper:
    """Makes persisters, and knows in the end whether one of them could not store everything."""

    def __init__(self, persisters: Persisters | None) -> None:
        self.persisters = persisters
        self.lost = False
        if persisters is not None:
            self.get_path_ids = persisters.get_path_ids

    def __call__(self, path_id: str) -> _Kept:
        assert self.persisters is not None
        return _Kept(self, self.persisters(path_id))


class _Kept:
    """A persister whose end is watched; all else of it is as it is."""

    __slots__ = ("_keeper", "_persister")

    def __init__(self, keeper: _Keeper, persister: Any) -> None:
        self._keeper = keeper
        self._persister = persister

    def __getattr__(self, name: str) -> Any:
        return getattr(self._persister, name)

    async def destroy(self) -> None:
        """Store what is unsaved and let go of everything."""
        try:
            await self._persister.destroy()
        except Exception:
            self._keeper.lost = True
            raise
