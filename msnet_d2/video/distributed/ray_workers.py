"""Chunks of videos on a Ray cluster.

Ray places the chunks, starts and watches the workers, and runs a chunk again whose worker died. It
also runs what anybody sends who reaches it, so that it is used with its tokens alone.
"""

from __future__ import annotations

import os
import re
import socket

from msnet_d2.errors import DependencyError, InputError, MSNetError, VideoError
from msnet_d2.video.detector import DetectorSettings, VideoDetector
from msnet_d2.video.distributed.chunks import Chunk
from msnet_d2.video.distributed.parallel import RETRIES, ChunkFunction, Outcomes, Task

__all__ = ["import_ray", "run_on_ray"]

_AUTH_MODE = "RAY_AUTH_MODE"
# Earlier ones know no tokens.
_FIRST_WITH_TOKENS = (2, 52)
_HOW = (
    "make a token by 'ray get-auth-token --generate', start the cluster with RAY_AUTH_MODE=token, "
    "and give the token to this process as RAY_AUTH_TOKEN or in ~/.ray/auth_token"
)


def import_ray():
    """Return the module ray.

    Raises:
        DependencyError: if it is not installed.
    """
    # Maps are made of places where people have lost their homes: nobody is told, unless asked to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault(_AUTH_MODE, "token")  # read when Ray is imported
    try:
        import ray
    except ImportError as error:
        raise DependencyError.for_extra("ray", "ray", "a Ray cluster") from error
    return ray


def run_on_ray(
    function: ChunkFunction,
    settings: DetectorSettings,
    tasks: list[Task],
    *,
    address: str | None = None,
) -> Outcomes:
    """A :data:`.parallel.Backend` on a cluster that exists.

    Args:
        function: run for each task.
        settings: of the detector.
        tasks: to run.
        address: of the cluster, as ``ray.init`` takes it; None: that of RAY_ADDRESS.

    Raises:
        DependencyError: without Ray.
        InputError: if there is no cluster, or it is used without tokens.
    """
    ray = import_ray()
    connected = _connect(ray, address)
    wanted = VideoDetector(settings).cfg.MODEL.DEVICE.startswith("cuda")
    gpus = int(wanted and ray.cluster_resources().get("GPU", 0) >= 1)

    @ray.remote(max_retries=RETRIES, num_gpus=gpus)
    def run(settings: DetectorSettings, video: str, chunk: Chunk) -> bytes:
        return function(settings, video, chunk)

    pending = {run.remote(settings, *task): number for number, task in enumerate(tasks)}
    try:
        while pending:
            (reference, *_), _ = ray.wait(list(pending), num_returns=1)
            yield pending.pop(reference), _result(ray, reference)
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)
        if connected:
            ray.shutdown()


def _result(ray, reference) -> bytes | MSNetError:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, MSNetError):
            return error.cause
        if isinstance(error.cause, InterruptedError):
            return VideoError(_first_line(error.cause))
        raise
    except ray.exceptions.RayError as error:
        return VideoError(f"workers died over it {RETRIES + 1} times ({_first_line(error)})")


def _connect(ray, address: str | None) -> bool:
    """Connect to the cluster; whether that was not done already."""
    if ray.is_initialized():
        return False
    where = address or os.environ.get("RAY_ADDRESS")
    if not where:
        raise InputError(
            "no Ray cluster is named: give `ray_address` or set RAY_ADDRESS; `num_workers` alone "
            "uses processes of this machine"
        )
    _check_tokens(ray.__version__)
    _check_reachable(where)
    try:
        ray.init(address=where, log_to_driver=False)
    except ray.exceptions.AuthenticationError as error:
        raise InputError(
            f"the Ray cluster at {where} and this process share no token ({_first_line(error)}); "
            f"{_HOW}"
        ) from error
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(f"no Ray cluster at {where}: {_first_line(error)}") from error
    return True


def _check_tokens(version: str) -> None:
    """See that Ray asks for tokens, whatever its version does by itself.

    Raises:
        InputError: if this version knows none, or they are switched off.
    """
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
    if numbers < _FIRST_WITH_TOKENS:
        raise InputError(
            f"Ray {version} knows no tokens, and runs what anybody sends; install 'ray>=2.52' here "
            "and on the cluster"
        )
    mode = os.environ.get(_AUTH_MODE, "")
    if mode.lower() != "token":
        raise InputError(
            f"{_AUTH_MODE} is {mode!r}: a cluster without tokens runs what anybody sends; {_HOW}"
        )


def _check_reachable(address: str) -> None:
    """See that somebody listens at HOST:PORT: Ray itself would try for many minutes.

    Raises:
        InputError: if nobody does.
    """
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        return  # "auto", ray://…: Ray's own to judge
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"no Ray cluster at {address}: {error}; start one by 'ray start --head', or leave the "
            "address out"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
