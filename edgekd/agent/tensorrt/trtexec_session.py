"""An engine answered by trtexec, where there are no bindings: files in, JSON out.

Each batch is a process that loads the engine anew, so this is for answers and never for timing.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import AbstractSet, Any, Dict, Mapping, Sequence

import numpy as np

from edgekd.agent.failures import AgentError
from edgekd.agent.runtimes import Arrays, TensorSpec
from edgekd.agent.tensorrt.spec import BuildSpec
from edgekd.agent.tensorrt.trtexec_advice import judge
from edgekd.agent.tensorrt.trtexec_command import running
from edgekd.agent.tensorrt.trtexec_json import Output, outputs_of
from edgekd.agent.tensorrt.trtexec_log import Version
from edgekd.agent.tensorrt.trtexec_process import LOG, Run, execute

RUN_S = 600.0
"""To load an engine from a slow disk and run it once."""
OUTPUT = "outputs.json"
UNREAD = "Using random values for input"


class TrtexecSession:
    """An engine, run in batches of its largest size; a smaller one is filled up and cut.

    Args:
        trtexec: its path.
        version: its release.
        options: those its help lists; empty if that is not known.
        plan: the engine.
        spec: what it was built for, with the sizes of its inputs.
        dtype: of its inputs, as trtexec does not say.
        run: what runs a program, ``subprocess.run``.
    """

    def __init__(
        self,
        trtexec: str,
        version: Version,
        options: AbstractSet[str],
        plan: Path,
        spec: BuildSpec,
        dtype: str,
        run: Run = subprocess.run,
    ) -> None:
        self._plan, self._spec, self._run = plan, spec, run
        self._folder = plan.with_suffix(".answers")
        self._files = {name: f"input-{index}.bin" for index, name in enumerate(spec.inputs)}
        self._command = running(trtexec, plan, spec, self._files, OUTPUT, version, options)
        release = ".".join(map(str, version))
        self.info: Mapping[str, str] = {
            "name": "tensorrt",
            "version": release,
            "provider": "TensorRT",
        }
        self.inputs: Sequence[TensorSpec] = [
            TensorSpec(name, dtype, spec.shapes(name)[2]) for name in spec.inputs
        ]
        self.metadata: Mapping[str, str] = {}

    def run(self, feed: Arrays) -> Arrays:
        """Run once; the outputs have as many rows as the inputs."""
        count, most = min(len(array) for array in feed.values()), self._spec.batch.most
        self._write(
            {name: np.resize(array, (most, *array.shape[1:])) for name, array in feed.items()}
        )
        (self._folder / OUTPUT).unlink(missing_ok=True)
        log = self._folder / LOG
        code, text = execute(self._command, self._folder, self._run, RUN_S)
        judge(code, text, self._spec, log, "run the engine of")
        if UNREAD in text:
            raise AgentError(
                "input",
                f"trtexec ran {self._plan.name} on random numbers instead of the images: the "
                f"engine's input is not {', '.join(self._files)}. Correct inputs in the job.",
            )
        return {name: self._array(name, one)[:count] for name, one in self._outputs(log).items()}

    def close(self) -> None:
        """Remove the files; the log stays."""
        for name in (*self._files.values(), OUTPUT):
            (self._folder / name).unlink(missing_ok=True)

    def _write(self, arrays: Arrays) -> None:
        try:
            self._folder.mkdir(exist_ok=True)
            for one in self.inputs:
                values = np.ascontiguousarray(
                    arrays[one.name], np.dtype(one.dtype).newbyteorder("<")
                )
                if values.shape != one.shape:
                    raise AgentError(
                        "input", f"the engine takes {one}, and was given {values.shape}."
                    )
                values.tofile(self._folder / self._files[one.name])
        except OSError as error:
            raise AgentError(
                "output",
                f"the images cannot be written to {self._folder} ({error}). Make room on the "
                "device's disk, or make that folder writable.",
            ) from error

    def _outputs(self, log: Path) -> Dict[str, Output]:
        file = self._folder / OUTPUT
        if not file.is_file():
            raise AgentError("output", f"trtexec said PASSED and wrote no {OUTPUT}; its log: {log}")
        return outputs_of(file.read_text("utf-8", errors="replace"))

    def _array(self, name: str, found: Output) -> Any:
        values = np.array(found.values, np.float32)
        if values.size != int(np.prod(found.shape)) or found.shape[:1] != (self._spec.batch.most,):
            raise AgentError(
                "output",
                f"trtexec wrote {values.size} values of {name} for the shape {found.shape}; "
                f"expected batches of {self._spec.batch.most}. Report it with its version.",
            )
        return values.reshape(found.shape)
