"""KServe's Python server with ONNX Runtime, V1 and V2."""

import logging
import os
import uuid

import numpy as np
import onnxruntime as ort
import uvicorn
from grpc.aio._server import Server
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer

NAME, FILE = os.environ["MODEL_NAME"], os.environ["MODEL_FILE"]
FEED, OUTPUT = os.environ["MODEL_FEED"], os.environ["MODEL_OUTPUT"]


# it listens on every address and has no setting for it: a benchmark stays on its machine
_config, _add_port = uvicorn.Config.__init__, Server.add_insecure_port
uvicorn.Config.__init__ = lambda self, app, **given: _config(
    self, app, **{**given, "host": "127.0.0.1"}
)
Server.add_insecure_port = lambda self, address: _add_port(
    self, f"127.0.0.1:{address.rpartition(':')[2]}"
)


class OnnxModel(Model):
    def __init__(self) -> None:
        super().__init__(NAME)
        self.load()

    def load(self) -> bool:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(FILE, options, ["CPUExecutionProvider"])
        self.ready = True
        return self.ready

    async def predict(self, payload, headers=None, response_headers=None):
        if not isinstance(payload, InferRequest):
            x = np.asarray(payload["instances"], dtype=np.float32)
            return {"predictions": self.session.run([OUTPUT], {FEED: x})[0][:, 1].tolist()}
        x = payload.inputs[0].as_numpy()
        scores = self.session.run([OUTPUT], {FEED: x})[0][:, 1]
        output = InferOutput("score", list(scores.shape), "FP32")
        binary = payload.inputs[0]._raw_data is not None
        output.set_data_from_numpy(scores, binary_data=binary)
        return InferResponse(payload.id or uuid.uuid4().hex, NAME, [output])


if __name__ == "__main__":
    server = ModelServer(
        http_port=int(os.environ["PORT"]),
        grpc_port=int(os.environ["GRPC_PORT"]),
        workers=int(os.environ["WORKERS"]),
        enable_latency_logging=False,
        access_log_format=None,
    )
    for name in ("kserve", "kserve.trace", "uvicorn.access"):  # four lines for every request
        logging.getLogger(name).setLevel(logging.WARNING)
    server.start([OnnxModel()])
