"""Our server in the forms that are compared, over a home folder that `prepare` has filled.

    python -m benchmarks.serving.ours FORM --home DIR --port P [--workers N]

as-is     the worker alone, log, metrics and routing on
unlogged  the same without the prediction log: what the log costs
keeper    with the process that turns the log into a Delta table, on the same core
paired    one request in ten is also scored by the other version
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from pathlib import Path

from benchmarks.serving.models import Model

AS_IS, UNLOGGED, KEEPER, PAIRED = FORMS = ("as-is", "unlogged", "keeper", "paired")
SAMPLED = "sampled"
"""As it is, and writes SAMPLES into its home when it is stopped (see `stages`)."""
SAMPLES = "samples.json"
STICKY = "f0"
"""The feature that keeps a caller on one version."""
SHARE = 10.0
"""Percent of the requests that the canary answers."""


def prepare(home: Path, model: Model, form: str) -> None:
    """A route with a sticky canary: the same weights as a second version, so that every request
    is assigned and each tick brings two batches."""
    from homeostat.backends.local.plane import LocalDataPlane
    from homeostat.core.route import Route, Servable

    champion = model.servable
    canary = Servable("2", champion.path, champion.digest)
    route = Route(
        model.name,
        1,
        champion,
        canary,
        percent=SHARE,
        paired=0.1 if form == PAIRED else 0.0,
        salt="bench",
        sticky=STICKY,
    )
    LocalDataPlane(home).publish(route)


def command(form: str, home: Path, port: int, grpc_port: int, workers: int) -> list[str]:
    """The worker itself where that is all there is; else this module, which wires the form."""
    where = ["--home", str(home), "--port", str(port), "--grpc-port", str(grpc_port)]
    if workers == 1 and form in (AS_IS, PAIRED):
        return [sys.executable, "-m", "homeostat.serving.worker", *where]
    this = [sys.executable, "-m", "benchmarks.serving.ours", form]
    return [*this, *where, "--workers", str(workers)]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("form", choices=[*FORMS, SAMPLED, "just-keep"])
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--grpc-port", type=int)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    if given.form == "just-keep":
        return _keep(given.home)
    alone = ["--home", str(given.home), "--port", str(given.port)]
    alone += ["--grpc-port", str(given.grpc_port)] if given.grpc_port else []
    if given.form == SAMPLED:
        return _sampled(given.home, alone)
    if given.form == UNLOGGED:
        return _unlogged(alone)
    return _supervised(given)


def _supervised(given: argparse.Namespace) -> int:
    from homeostat.serving.spec import ServingSpec
    from homeostat.serving.supervisor import Supervisor

    home = given.home
    keep = [sys.executable, "-m", "benchmarks.serving.ours", "just-keep", "--home", str(home)]
    Supervisor(
        home,
        ServingSpec(),
        port=given.port,
        grpc_port=given.grpc_port,
        workers=given.workers,
        companions={"keeper": keep} if given.form == KEEPER else {},
    ).run_forever()
    return 0


def _keep(home: Path) -> int:
    from homeostat.backends.local.ledger import DeltaLedger
    from homeostat.backends.local.prediction_log import DeltaPredictionLog
    from homeostat.serving import keeper

    keeper.run(home, DeltaPredictionLog(home), DeltaLedger(home / "labels"), _orphaned())
    return 0


def _orphaned() -> threading.Event:
    """Set by SIGTERM, and when the parent is gone."""
    import signal

    stop, parent = threading.Event(), os.getppid()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    def watch() -> None:
        while not stop.wait(0.1):
            if os.getppid() != parent:
                stop.set()

    threading.Thread(target=watch, daemon=True).start()
    return stop


def _sampled(home: Path, arguments: list[str]) -> int:
    from benchmarks.serving.sampler import Sampler

    import homeostat
    from homeostat.serving import worker

    sampler = Sampler(Path(homeostat.__file__).parent, frozenset({"main"}))
    sampler.install()
    try:
        return worker.main(arguments)
    finally:
        sampler.write(home / SAMPLES)


def _unlogged(arguments: list[str]) -> int:
    """No record is made, none is kept. There is no such switch in the product."""
    from homeostat.serving import engine, worker
    from homeostat.serving.log import SegmentLog
    from homeostat.serving.segment import PredictionBlock

    class Silent(SegmentLog):
        def predictions(self, frames: list[bytes]) -> None:
            pass

        def block(self, block: PredictionBlock) -> None:
            pass

    worker.SegmentLog = Silent  # type: ignore[misc]
    engine.answered = lambda *_: iter(())
    return worker.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
