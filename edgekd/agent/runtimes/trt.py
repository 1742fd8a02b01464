"""TensorRT, an engine built on this device from the model's ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from edgekd.agent.runtimes import Arrays, DeviceMemory, Layer, Session, TensorSpec
from edgekd.agent.tensorrt import cache, probe
from edgekd.agent.tensorrt.cuda import Cuda
from edgekd.agent.tensorrt.engine import Execution, load_engine
from edgekd.agent.tensorrt.fitting import fitting

__all__ = ["TensorRt"]

PROFILED_RUNS = 20
PROVIDER = "TensorRT"


class TensorRt:
    """TensorRT on the first GPU, and on its DLA where the engine was built for that.

    Options:
        batch_size: what an engine that has to be built is tuned for.
        precision: of an engine that is built of an ONNX file alone; its own unless given.
        events: whether to keep the GPU's own time of each run, copies left out.

    A run is copying in, computing and copying out, as the caller's data is in the host's memory.
    """

    def prepare(self, model: Path, options: Mapping[str, Any]) -> Path:
        return fitting(model, options).plan

    def made(self, model: Path, options: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
        return fitting(model, options).to_dict()

    def open(self, model: Path, options: Mapping[str, Any]) -> Session:
        return _Session(model, probe.load(), bool(options.get("events")))

    def layers(self, model: Path, options: Mapping[str, Any], feed: Arrays) -> List[Layer]:
        trt = probe.load()
        session = _Session(model, trt)
        profiler = _profiler(trt)
        session.run(feed)  # the first one allocates
        session.profile(profiler)
        for _ in range(PROFILED_RUNS):
            session.run(feed)
        session.close()
        types = _types(model)
        return [
            Layer(name, types.get(name, ""), PROVIDER, total / PROFILED_RUNS)
            for name, total in profiler.spent.items()
        ]


class _Session:
    def __init__(self, plan: Path, trt: Any, events: bool = False) -> None:
        side = cache.read_side(plan) or {}
        self._cuda = Cuda()
        self._free = self._cuda.free_bytes()
        engine = load_engine(trt, plan.read_bytes(), plan.name)
        self._execution: Optional[Execution] = Execution(trt, engine, self._cuda, events)
        self.info: Mapping[str, str] = {
            "name": "tensorrt",
            "version": str(trt.__version__),
            "provider": PROVIDER,
        }
        self.inputs: Sequence[TensorSpec] = [one.spec for one in self._execution.inputs]
        self.metadata: Mapping[str, str] = dict(side.get("metadata") or {})

    def run(self, feed: Arrays) -> Arrays:
        assert self._execution is not None, "the session is closed"
        return self._execution.run(feed)

    @property
    def device_ns(self) -> Optional[int]:
        """The last run's time by the GPU's own events; None unless they were asked for."""
        return None if self._execution is None else self._execution.device_ns

    def device_memory(self) -> DeviceMemory:
        """What of the GPU's memory went since before the engine was loaded, to whomever."""
        return DeviceMemory(max(self._free - self._cuda.free_bytes(), 0), self._cuda.integrated())

    def profile(self, profiler: Any) -> None:
        """Have each layer timed from now on, which makes the whole slower."""
        assert self._execution is not None, "the session is closed"
        self._execution.context.profiler = profiler

    def close(self) -> None:
        if self._execution is not None:
            self._execution.close()
        self._execution = None


def _profiler(trt: Any) -> Any:
    class Profiler(trt.IProfiler):  # type: ignore[misc]  # a class that is found at run time
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.spent: Dict[str, float] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.spent[layer_name] = self.spent.get(layer_name, 0.0) + ms

    return Profiler()


def _types(plan: Path) -> Dict[str, str]:
    """Layer types by name, as the build read them."""
    side = cache.read_side(plan) or {}
    rows = (side.get("inspection") or {}).get("layers") or []
    return {str(name): str(kind) for name, kind, _ in rows}
