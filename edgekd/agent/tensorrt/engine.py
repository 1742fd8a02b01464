"""Run an engine: its tensors by name, their memory on the GPU, a stream of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from edgekd.agent.failures import AgentError
from edgekd.agent.runtimes import Arrays, TensorSpec
from edgekd.agent.tensorrt.messages import last_words, listener
from edgekd.agent.tensorrt.probe import start


def load_engine(trt: Any, plan: bytes, name: str) -> Any:
    """An engine from its bytes.

    Raises:
        AgentError: TensorRT refuses it, as one of another release or GPU.
    """
    logger = listener(trt)
    runtime = start(trt, "Runtime", logger)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise AgentError(
            "model",
            f"TensorRT {trt.__version__} cannot load {name}. {last_words(logger)} Engines run only "
            "on the kind of GPU and the release that built them: build it again here.",
        )
    return engine


def layer_information(trt: Any, engine: Any) -> str:
    """The inspector's JSON."""
    inspector = engine.create_engine_inspector()
    return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


@dataclass(frozen=True)
class Tensor:
    """An input or an output of an engine."""

    name: str
    dtype: str
    shape: Tuple[int, ...]
    """-1 where the size is free."""

    @property
    def spec(self) -> TensorSpec:
        return TensorSpec(self.name, self.dtype, tuple(n if n >= 0 else None for n in self.shape))


class Execution:
    """An engine with its context and memory; one run at a time.

    Args:
        trt: the module.
        engine: as :func:`load_engine` gives it.
        cuda: the GPU.
        events: whether to keep the GPU's own time of each run in :attr:`device_ns`.

    A batch that is too big for the engine is run in pieces: accuracy is measured in batches of 32,
    whatever the engine was built for. Engines to be timed are built for the batch they are given.
    """

    def __init__(self, trt: Any, engine: Any, cuda: Any, events: bool = False) -> None:
        self._engine, self._cuda = engine, cuda
        self.inputs, self.outputs = _tensors(trt, engine)
        self.context = engine.create_execution_context()
        if self.context is None:
            raise AgentError(
                "memory",
                f"TensorRT {trt.__version__} has no room on the GPU to run this engine. Stop other "
                "programs that use it, or build for smaller batches or with less workspace.",
            )
        self._most = _most(engine, self.inputs)
        self._stream = cuda.stream()
        self._events = (cuda.event(), cuda.event()) if events else None
        self.device_ns: Optional[int] = None
        self._memory: Dict[str, Tuple[int, int]] = {}  # name -> address, bytes

    def run(self, feed: Arrays) -> Arrays:
        """Copy in, run, copy out, wait."""
        self.device_ns = None
        size = self._most
        if size is None or all(len(array) <= size for array in feed.values()):
            return self._run(feed)
        count = max(len(array) for array in feed.values())
        pieces = [
            self._run({name: array[start : start + size] for name, array in feed.items()})
            for start in range(0, count, size)
        ]
        return {name: np.concatenate([one[name] for one in pieces]) for name in pieces[0]}

    def _run(self, feed: Arrays) -> Arrays:
        given = {one.name: self._bind_input(one, feed) for one in self.inputs}
        missing = self.context.infer_shapes()
        if missing:
            raise AgentError("input", f"the engine knows no shape for {', '.join(missing)}.")
        found = {one.name: self._bind_output(one) for one in self.outputs}
        for name, array in given.items():
            self._cuda.send(self._memory[name][0], array, self._stream)
        self._record(0)
        if not self.context.execute_async_v3(self._stream):
            raise AgentError("output", "TensorRT could not run the engine; its log has the reason.")
        self._record(1)
        for name, array in found.items():
            self._cuda.fetch(array, self._memory[name][0], self._stream)
        self._cuda.synchronise(self._stream)
        if self._events is not None:
            self.device_ns = (self.device_ns or 0) + self._cuda.between_ns(*self._events)
        return found

    def _record(self, end: int) -> None:
        """Have the GPU note when it begins with the engine (0), or is done (1): without copies."""
        if self._events is not None:
            self._cuda.record(self._events[end], self._stream)

    def close(self) -> None:
        """Free the memory; the context goes before what it uses."""
        self.context = self._engine = None
        for address, _ in self._memory.values():
            self._cuda.free(address)
        self._memory = {}
        for event in self._events or ():
            self._cuda.forget(event)
        self._events = None
        self._cuda.destroy(self._stream)

    def _bind_input(self, tensor: Tensor, feed: Arrays) -> Any:
        array = np.ascontiguousarray(feed[tensor.name], dtype=tensor.dtype)
        if not self.context.set_input_shape(tensor.name, tuple(array.shape)):
            raise AgentError(
                "input",
                f"the engine does not take {tensor.name} as {tuple(array.shape)}: it was built for "
                f"{tensor.spec}. Give images of that size.",
            )
        self._bind(tensor.name, array.nbytes)
        return array

    def _bind_output(self, tensor: Tensor) -> Any:
        shape = tuple(self.context.get_tensor_shape(tensor.name))
        array = np.empty(shape, dtype=tensor.dtype)
        self._bind(tensor.name, array.nbytes)
        return array

    def _bind(self, name: str, size: int) -> None:
        """Memory for a tensor, kept from run to run as long as it is enough."""
        address, room = self._memory.get(name, (0, -1))
        if size > room:
            if address:
                del self._memory[name]
                self._cuda.free(address)
            address = self._cuda.malloc(size)
            self._memory[name] = address, size
            self.context.set_tensor_address(name, address)


def _most(engine: Any, inputs: List[Tensor]) -> Optional[int]:
    """The largest batch; None if an input has a fixed one."""
    if not inputs or any(one.shape[:1] != (-1,) for one in inputs):
        return None
    return min(int(engine.get_tensor_profile_shape(one.name, 0)[2][0]) for one in inputs)


def _tensors(trt: Any, engine: Any) -> Tuple[List[Tensor], List[Tensor]]:
    """Inputs and outputs, in the engine's order."""
    found: Tuple[List[Tensor], List[Tensor]] = ([], [])
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name))).name
        tensor = Tensor(name, dtype, tuple(engine.get_tensor_shape(name)))
        found[engine.get_tensor_mode(name) != trt.TensorIOMode.INPUT].append(tensor)
    return found
