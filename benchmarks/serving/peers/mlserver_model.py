"""MLServer with a custom runtime on ONNX Runtime, as its documentation tells to write one."""

import os

import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxModel(MLModel):
    async def load(self) -> bool:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        file = os.environ["MODEL_FILE"]
        self._session = ort.InferenceSession(file, options, ["CPUExecutionProvider"])
        self._feed, self._output = os.environ["MODEL_FEED"], os.environ["MODEL_OUTPUT"]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        x = NumpyCodec.decode_input(payload.inputs[0])
        scores = self._session.run([self._output], {self._feed: x})[0][:, 1:]
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            outputs=[NumpyCodec.encode_output("score", scores)],
        )
