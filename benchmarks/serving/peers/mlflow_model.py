"""Save the ONNX model in the form of MLflow: `mlflow_model.py FOLDER`."""

import os
import sys

import mlflow.onnx
import numpy as np
import onnx
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

inputs = Schema([TensorSpec(np.dtype(np.float32), (-1, 30), os.environ["MODEL_FEED"])])
outputs = Schema([TensorSpec(np.dtype(np.float32), (-1, 2), os.environ["MODEL_OUTPUT"])])
mlflow.onnx.save_model(
    onnx.load(os.environ["MODEL_FILE"]),
    sys.argv[1],
    signature=ModelSignature(inputs, outputs),
    onnx_execution_providers=["CPUExecutionProvider"],
    onnx_session_options={"intra_op_num_threads": 1, "inter_op_num_threads": 1},
    pip_requirements=[],
)
