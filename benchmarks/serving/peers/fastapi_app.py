"""FastAPI as a competent user writes it: typed models, ONNX Runtime on one thread, uvloop."""

import os
import uuid

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

NAME, FILE = os.environ["MODEL_NAME"], os.environ["MODEL_FILE"]
FEED, OUTPUT = os.environ["MODEL_FEED"], os.environ["MODEL_OUTPUT"]

options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(FILE, options, ["CPUExecutionProvider"])
app = FastAPI()


class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Request(BaseModel):
    id: str | None = None
    inputs: list[Tensor]


class Response(BaseModel):
    model_name: str
    model_version: str
    id: str
    outputs: list[Tensor]


@app.get("/v2/health/ready")
async def ready() -> dict[str, bool]:
    return {"ready": True}


@app.post("/v2/models/{model}/infer")
async def infer(model: str, request: Request) -> Response:
    if model != NAME:
        raise HTTPException(404, f"no model {model}")
    tensor = request.inputs[0]
    x = np.array(tensor.data, dtype=np.float32).reshape(tensor.shape)
    scores = session.run([OUTPUT], {FEED: x})[0][:, 1]
    output = Tensor(name="score", shape=[len(scores)], datatype="FP32", data=scores.tolist())
    return Response(
        model_name=NAME, model_version="1", id=request.id or uuid.uuid4().hex, outputs=[output]
    )
