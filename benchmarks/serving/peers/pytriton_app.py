"""PyTriton with ONNX Runtime: Triton's own front end, its dynamic batching on (its default)."""

import os

import numpy as np
import onnxruntime as ort
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

NAME, FILE = os.environ["MODEL_NAME"], os.environ["MODEL_FILE"]
FEED, OUTPUT = os.environ["MODEL_FEED"], os.environ["MODEL_OUTPUT"]


def scorer():
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(FILE, options, ["CPUExecutionProvider"])

    @batch
    def infer(input):
        return [session.run([OUTPUT], {FEED: input})[0][:, 1:]]

    return infer


config = TritonConfig(
    http_address="127.0.0.1",
    grpc_address="127.0.0.1",
    http_port=int(os.environ["PORT"]),
    grpc_port=int(os.environ["GRPC_PORT"]),
    metrics_port=int(os.environ["METRICS_PORT"]),
)
with Triton(config=config) as triton:
    triton.bind(
        model_name=NAME,
        infer_func=[scorer() for _ in range(int(os.environ["WORKERS"]))],
        inputs=[Tensor(name="input", dtype=np.float32, shape=(30,))],
        outputs=[Tensor(name="score", dtype=np.float32, shape=(1,))],
        config=ModelConfig(max_batch_size=128),
    )
    triton.serve()
