"""nginx as a limiter that shares no code with this project, with its own configuration and folder a run."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ("missing", "nginx")

_CONFIG = """
daemon off;
user root;
worker_processes 1;
pid nginx.pid;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  limit_req_zone $server_name zone=rate:1m rate={rate}r/s;
  limit_conn_zone $server_name zone=running:1m;
  limit_req_status 429;
  limit_conn_status 429;
  upstream emulator {{ server {upstream}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    server_name ruxa;  # the key of the limits: an empty one is not limited
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    location = /api/v1/tasks/create {{
      limit_req zone=rate{burst} nodelay;
      {cap}
      proxy_pass http://emulator;
    }}
    location / {{ proxy_pass http://emulator; }}
  }}
}}
"""


def missing() -> str | None:
    """Return why nginx is missing, None if it is installed."""
    return None if _program() else "nginx is not installed (Debian: apt-get install nginx)"


def _program() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


@contextmanager
def nginx(upstream: str, *, rate: int, burst: int, connections: int | None = None) -> Iterator[str]:
    """Limit the creates to *upstream*, such as ``http://127.0.0.1:1``; yield the address of the limiter.

    *rate* is in requests a second, *burst* as in ``limit_req``; *connections* caps the creates in progress.
    """
    program = _program()
    assert program is not None
    with tempfile.TemporaryDirectory(prefix="ruxa-nginx-") as folder:
        port = _free_port()
        config = _CONFIG.format(
            rate=rate,
            burst=f" burst={burst}" if burst else "",
            cap=f"limit_conn running {connections};" if connections else "",
            upstream=upstream.removeprefix("http://"),
            port=port,
        )
        Path(folder, "nginx.conf").write_text(config, encoding="ascii")
        arguments = [program, "-p", folder, "-c", "nginx.conf", "-e", "error.log"]
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_for(process, port, Path(folder, "error.log"))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(100):
        if process.poll() is not None:
            raise RuntimeError(f"nginx did not start: {log.read_text(encoding='utf-8')}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("nginx did not listen within 5 s")
