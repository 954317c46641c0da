"""BentoML with ONNX Runtime; BATCHING=1 has its adaptive batching on."""

import os

import bentoml
import numpy as np
import onnxruntime as ort

NAME, FILE = os.environ["MODEL_NAME"], os.environ["MODEL_FILE"]
FEED, OUTPUT = os.environ["MODEL_FEED"], os.environ["MODEL_OUTPUT"]
BATCHING = {"batchable": True, "max_batch_size": 128} if os.environ.get("BATCHING") else {}


@bentoml.service(
    workers=int(os.environ["WORKERS"]),
    traffic={"timeout": 60, "concurrency": 1000},
    logging={"access": {"enabled": False}},
)
class Models:
    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(FILE, options, ["CPUExecutionProvider"])

    @bentoml.api(route=f"/{NAME}", **BATCHING)
    async def predict(self, x: np.ndarray) -> np.ndarray:
        return self.session.run([OUTPUT], {FEED: x.astype(np.float32)})[0][:, 1]
