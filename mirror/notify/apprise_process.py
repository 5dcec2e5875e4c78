"""The process that sends notices: the order as JSON on stdin, one line of JSON for each address on stdout."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path

UNKNOWN = "Apprise does not know this kind of address"

_writing = threading.Lock()


def main() -> int:
    """Carry out the order on stdin. All addresses are tried at the same time."""
    order = json.load(sys.stdin.buffer)
    signal.alarm(order["seconds"] + 5)  # ends this process where nobody is left to do it
    logging.disable()  # a library's message may contain an address
    os.environ.update(order.get("environment", {}))
    _trust(order.get("authorities", []))
    threads = [
        threading.Thread(target=_one, args=(index, url, order["message"]), daemon=True)
        for index, url in enumerate(order["urls"])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0


def _one(index: int, url: str, message: dict[str, str] | None) -> None:
    try:
        problem = _problem(url, message)
    except Exception as error:  # noqa: BLE001 - Apprise's services are third parties
        problem = type(error).__name__
    with _writing:
        sys.stdout.write(json.dumps({"index": index, "problem": problem}) + "\n")
        sys.stdout.flush()


def _problem(url: str, message: dict[str, str] | None) -> str | None:
    """Why the message could not be sent to `url`, or None; without a message, whether it could be."""
    import apprise

    service = apprise.Apprise.instantiate(url)
    if service is None:
        return UNKNOWN
    if message is None:
        return None
    sender = apprise.Apprise(asset=apprise.AppriseAsset(app_id="Mirror", app_desc="Mirror"))
    sender.add(service)
    # Plain text: where a service needs HTML or Markdown, Apprise escapes it.
    sent = sender.notify(
        body=message["body"],
        title=message["title"],
        notify_type=apprise.NotifyType(message["kind"]),
        body_format=apprise.NotifyFormat.TEXT,
        interpret_escapes=False,
    )
    return None if sent else "the server did not take it, or could not be reached"


def _trust(files: list[str]) -> None:
    """Trust the certificates in these files: Apprise's libraries take one file, for all of them."""
    if not files:
        return
    # A file in memory, which ends with this process.
    descriptor = os.memfd_create("authorities", 0)
    os.write(descriptor, b"\n".join(Path(file).read_bytes() for file in files))
    os.environ["REQUESTS_CA_BUNDLE"] = os.environ["SSL_CERT_FILE"] = f"/proc/self/fd/{descriptor}"


if __name__ == "__main__":
    sys.exit(main())
