"""KServe's Python server with ONNX Runtime, V1 and V2."""

import logging
import os
import uuid

import numpy as np
import onnxruntime as ort
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer

NAME, FILE = os.environ["MODEL_NAME"], os.environ["MODEL_FILE"]
FEED, OUTPUT = os.environ["MODEL_FEED"], os.environ["MODEL_OUTPUT"]


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

    def __getstate__(self):
        # its worker processes get the model pickled, and a session cannot be
        return {key: value for key, value in self.__dict__.items() if key != "session"}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.load()

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
    logging.getLogger("kserve").setLevel(logging.WARNING)  # not a line for every gRPC call
    server.start([OnnxModel()])
