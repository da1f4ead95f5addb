"""What a model's outputs say, as people and programs want to read it."""

from __future__ import annotations

import base64

import numpy as np

from edge_agent.frames import Answer
from split_core.errors import BundleError
from split_core.model.bundle import Bundle
from split_core.tensors import to_real


def read_answer(bundle: Bundle, outputs: dict[str, np.ndarray], top_k: int = 5) -> dict:
    """The fields that the kind of answer gives: ``top``, ``text`` or ``objects``.

    Raises BundleError for outputs that are not what that kind of model gives.
    """
    try:
        return _read(bundle, outputs, top_k)
    except (ValueError, IndexError, TypeError, OverflowError) as e:
        raise BundleError(f"the outputs are no {bundle.manifest.answer.kind}: {e}") from None


def _read(bundle: Bundle, outputs: dict[str, np.ndarray], top_k: int) -> dict:
    arrays = [outputs[n] for n in bundle.manifest.outputs]
    specs = bundle.output_specs
    labels = bundle.manifest.answer.labels
    match bundle.manifest.answer.kind:
        case "classification":
            return {"top": top_classes(to_real(arrays[0], specs[0]).ravel(), labels, top_k)}
        case "sequence":
            return read_sequence(to_real(arrays[0], specs[0]), labels)
        case "detection":
            real = [to_real(a, s) for a, s in zip(arrays, specs)]
            return {"objects": detections(real, labels)}
    return {}


def _label(labels: tuple[str, ...], index: int) -> str | None:
    return labels[index] if 0 <= index < len(labels) else None


def top_classes(scores: np.ndarray, labels: tuple[str, ...], top_k: int) -> list[dict]:
    """The best classes, best first; of equal scores the lower index."""
    order = np.argsort(-scores.astype(np.float64), kind="stable")[:top_k]
    return [{"index": int(i), "label": _label(labels, int(i)), "score": round(float(scores[i]), 6)}
            for i in order]


def read_sequence(scores: np.ndarray, labels: tuple[str, ...]) -> dict:
    """One class a position, joined to a text; its score is that of the least sure position."""
    rows = scores.reshape(-1, scores.shape[-1])
    best = rows.argmax(axis=-1)
    text = "".join(_label(labels, int(i)) or str(i) for i in best)
    return {"text": text, "score": round(float(rows.max(axis=-1).min()), 6)}


def detections(arrays: list[np.ndarray], labels: tuple[str, ...]) -> list[dict]:
    """Of TFLite_Detection_PostProcess: boxes [1, n, 4] as top, left, bottom, right of the
    input's size, classes, scores, count."""
    boxes, classes, scores, count = (np.squeeze(a, 0) if a.ndim else a for a in arrays[:4])
    count = int(np.ravel(count)[0]) if count.size else 0
    return [
        {"label": _label(labels, int(classes[i])), "index": int(classes[i]),
         "score": round(float(scores[i]), 6), "box": [round(float(v), 5) for v in boxes[i]]}
        for i in range(min(count, len(scores)))
    ]


def _as_text(words: str) -> str:
    """Names of files, which may be any bytes, as JSON can have them."""
    return words.encode("utf-8", "replace").decode()


def to_record(answer: Answer, bundle: Bundle, *, at: str, top_k: int, raw_tensors: bool) -> dict:
    """The fields of a `record.ResultRecord`, for an answer that ended ``at`` that time of day."""
    record = {
        "frame_id": answer.frame_id,
        "source": _as_text(answer.source),
        "at": at,
        "outcome": answer.outcome.value,
        "reason": _as_text(answer.reason),
        "late": answer.late,
        "cut": answer.cut,
        "rung": answer.rung,
        "plan_id": answer.plan_id,
        "worker": answer.worker,
        "payload_bytes": answer.payload_bytes,
        "predicted_kl": answer.predicted_kl and float(f"{answer.predicted_kl:.4g}"),
        "refined": answer.refined,
        "raced": answer.raced,
        "stages_ms": {k: round(v, 3) for k, v in answer.stages_ms.items()},
        "total_ms": round(answer.total_ms, 3),
    }
    if answer.outputs is not None:
        record |= read_answer(bundle, answer.outputs, top_k)
        if raw_tensors:
            record["tensors"] = [
                {"name": n, "dtype": a.dtype.name, "shape": list(a.shape),
                 "data": base64.b64encode(a.tobytes()).decode()}
                for n in bundle.manifest.outputs if (a := answer.outputs.get(n)) is not None
            ]
    return record
