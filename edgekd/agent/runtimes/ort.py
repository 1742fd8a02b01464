"""ONNX Runtime, on one execution provider and without falling back to another."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from edgekd.agent.failures import AgentError, explain_import, explain_text
from edgekd.agent.onnx_file import check_weights
from edgekd.agent.runtimes import Arrays, Layer, Session, TensorSpec
from edgekd.agent.runtimes._ort_profile import layers_of

__all__ = ["OnnxRuntime"]

CPU = "CPUExecutionProvider"
DTYPES = {"float": "float32", "double": "float64"}  # ONNX Runtime's words -> numpy's
PROFILED_RUNS = 10
ORT_FORMAT = ".ort"
"""ONNX Runtime's own format, in letters of either case; all other names are read as ONNX."""


class OnnxRuntime:
    """ONNX Runtime.

    Options:
        provider: such as ``CPUExecutionProvider``. Opening fails if the model would run on another
            one: a silent fall-back to the CPU would make the measurement meaningless.
        threads: intra-op threads; inter-op is always 1.
        spinning: whether idle threads burn the CPU to wake up sooner.
        interleaved: whether other sessions run in turn with this one; its threads then stop
            spinning after each run, because they would slow down the others.
    """

    def prepare(self, model: Path, options: Mapping[str, Any]) -> Path:
        _load()  # importing takes longer than many a model does to load, and is not its time
        if model.suffix.lower() != ORT_FORMAT:
            check_weights(model)
        return model

    def made(self, model: Path, options: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
        return None  # the file itself is run

    def open(self, model: Path, options: Mapping[str, Any]) -> Session:
        return _Session(model, options, _load())

    def layers(self, model: Path, options: Mapping[str, Any], feed: Arrays) -> List[Layer]:
        with tempfile.TemporaryDirectory() as folder:
            session = _Session(model, options, _load(), profile=Path(folder) / "ort")
            for _ in range(PROFILED_RUNS):
                session.run(feed)
            try:
                events = json.loads(session.end_profiling().read_text("utf-8", "replace"))
            except (OSError, ValueError) as error:  # it writes names of nodes as they are
                raise AgentError(
                    "model",
                    f"ONNX Runtime's own profile of {model.name} cannot be read: {error}. Leave "
                    "--layers out, or give its nodes names without quotes.",
                ) from error
            session.close()
        return layers_of(events)


class _Session:
    def __init__(
        self, model: Path, options: Mapping[str, Any], ort: Any, profile: Optional[Path] = None
    ) -> None:
        provider = str(options.get("provider") or CPU)
        offered = ort.get_available_providers()
        if provider not in offered:
            raise _not_offered(provider, offered)
        config = _config(ort, options, profile)
        try:
            self._session = ort.InferenceSession(str(model), config, providers=[provider])
        except Exception as error:  # ONNX Runtime's exceptions have no common public ancestor
            raise _bad_model(model, str(error), ort.__version__) from error
        found = self._session.get_providers()[0]
        if found != provider:
            raise _fell_back(model, provider, found)
        self.info: Mapping[str, str] = {
            "name": "onnxruntime",
            "version": str(ort.__version__),
            "provider": found,
        }
        self.inputs: Sequence[TensorSpec] = [_spec(v) for v in self._session.get_inputs()]
        self.metadata: Mapping[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self._outputs = [value.name for value in self._session.get_outputs()]
        self._model = model.name
        if not self._outputs:
            raise AgentError("model", f"{model.name} has no outputs. Export it again.")

    def run(self, feed: Arrays) -> Arrays:
        try:
            found = self._session.run(self._outputs, feed)
        except MemoryError:
            raise
        except Exception as error:  # as above
            raise _failed(self._model, str(error)) from error
        return dict(zip(self._outputs, found))

    def end_profiling(self) -> Path:
        return Path(self._session.end_profiling())

    def close(self) -> None:
        self._session = None


def _load() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise explain_import(str(error)) or AgentError("module", str(error)) from error
    return onnxruntime


def _config(ort: Any, options: Mapping[str, Any], profile: Optional[Path]) -> Any:
    config = ort.SessionOptions()
    config.log_severity_level = 3  # errors only; they are raised as well
    config.intra_op_num_threads = int(options["threads"])
    config.inter_op_num_threads = 1
    spinning = bool(options.get("spinning"))
    config.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    config.add_session_config_entry("session.inter_op.allow_spinning", "0")
    if spinning and options.get("interleaved"):
        config.add_session_config_entry("session.force_spinning_stop", "1")
    if profile is not None:
        config.enable_profiling = True
        config.profile_file_prefix = str(profile)
    return config


def _spec(value: Any) -> TensorSpec:
    kind = value.type[len("tensor(") : -1] if value.type.startswith("tensor(") else value.type
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in value.shape)
    return TensorSpec(value.name, DTYPES.get(kind, kind), shape)


def _not_offered(provider: str, offered: List[str]) -> AgentError:
    return AgentError(
        "provider",
        f"{provider} was asked for and is not in this build of ONNX Runtime, which offers: "
        f"{', '.join(offered)}. Ask for one of these, or install the build that has yours "
        "(onnxruntime-gpu for CUDA and TensorRT).",
    )


def _fell_back(model: Path, provider: str, found: str) -> AgentError:
    return AgentError(
        "provider",
        f"{provider} was asked for and ONNX Runtime fell back to {found} for {model.name}; that is "
        f"not measured in its place. Check that the driver and libraries of {provider} are there, "
        f"or ask for {found}.",
    )


def _bad_model(model: Path, said: str, version: str) -> AgentError:
    """Sort ONNX Runtime's refusals by what the reader can do about them."""
    said = " ".join(said.split())
    imported = explain_import(said)
    if imported is not None:
        return imported
    advice = next(
        text for words, text in _ADVICE if any(word.lower() in said.lower() for word in words)
    )
    return AgentError(
        "model", f"ONNX Runtime {version} cannot load {model.name}: {advice} It said: {said[:300]}"
    )


def _failed(model: str, said: str) -> AgentError:
    """It was loaded, and cannot be run on what it says that it takes."""
    said = " ".join(said.split())
    known = explain_text(said)
    if known is not None:
        return AgentError(known.kind, f"{model}: {known} It said: {said[:300]}")
    return AgentError(
        "model",
        f"ONNX Runtime cannot run {model} on the input that it says it takes. Export it again, or "
        f"give the size it was made for (--image-size). It said: {said[:300]}",
    )


_ADVICE = [
    (
        ["Protobuf parsing failed", "INVALID_PROTOBUF", "ModelProto does not have a graph"],
        "the file is not a whole ONNX model. Export it again, or copy it again and compare sizes.",
    ),
    (
        ["is not a registered function/op", "No Op regist"],
        "it names an operator that this release does not have: one of its maker's own, or of a "
        "newer release. Export it with the operators of ONNX alone, or update ONNX Runtime there.",
    ),
    (
        ["Unsupported model IR version", "opset"],
        "it needs a newer release than this one. Update ONNX Runtime there, or export the model "
        "with a lower opset (edgekd writes 18 unless told).",
    ),
    (
        ["NOT_IMPLEMENTED", "Could not find an implementation"],
        "this build or provider lacks one of its operators. Use another provider or precision.",
    ),
    (
        ["out of bounds", "given file_length"],
        "the second file with its weights is shorter than the model says. Copy both again and "
        "compare sizes, or export it again.",
    ),
    (
        ["external data", "external_data", "model.onnx.data"],
        "its weights are in a second file that did not come along. Export it into one file "
        "(external_data=False), or keep NAME.onnx.data beside NAME.onnx.",
    ),
    ([""], "the file was read and refused."),
]
