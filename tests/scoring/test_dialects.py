"""Every dialect, through a running server, with the client that speaks it in the wild."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pandas as pd
import pytest
import requests
import tritonclient.http as triton
from botocore import UNSIGNED
from botocore.config import Config

from tests.scoring.models import IRIS, IRIS_ROW, MIXED_ROW, tensor_model
from tests.scoring.servers import Server

ROWS = [IRIS_ROW, [6.3, 3.3, 6.0, 2.5]]
FRAME = pd.DataFrame(ROWS, columns=IRIS)
EXPECTED = [0, 2]


def test_mlflow_routes(iris_server: Server) -> None:
    for path in ("/ping", "/health"):
        assert iris_server.get(path).status_code == 200
    assert iris_server.get("/version").json()["model"] == "iris"
    answer = iris_server.post("/invocations", {"dataframe_split": FRAME.to_dict(orient="split")})
    assert answer.json() == {"predictions": EXPECTED}


def test_mlflows_own_client(iris_server: Server) -> None:
    from mlflow.deployments import PredictionsResponse
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    client = ScoringServerClient("127.0.0.1", iris_server.port)
    client.ping()
    answer = client.invoke(FRAME)
    assert isinstance(answer, PredictionsResponse)
    assert answer.get_predictions(predictions_format="ndarray").ravel().tolist() == EXPECTED


@pytest.fixture
def sagemaker(iris_server: Server) -> Any:
    """boto3's client of SageMaker's runtime. The real service passes bodies on to the container; so does this hook."""
    client = boto3.client(
        "sagemaker-runtime",
        region_name="eu-west-1",
        endpoint_url=iris_server.url,
        config=Config(signature_version=UNSIGNED),
    )

    def to_the_container(request: Any, **_: Any) -> None:
        request.url = iris_server.url + "/invocations"

    client.meta.events.register("before-sign.sagemaker-runtime.InvokeEndpoint", to_the_container)
    return client


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/csv", "\n".join(",".join(map(str, row)) for row in ROWS)),
        ("application/jsonlines", "\n".join(json.dumps({"features": row}) for row in ROWS)),
        ("application/json", json.dumps({"instances": FRAME.to_dict(orient="records")})),
    ],
)
def test_sagemaker_with_boto3(sagemaker: Any, content_type: str, body: str) -> None:
    answer = sagemaker.invoke_endpoint(EndpointName="iris", Body=body, ContentType=content_type)
    assert json.loads(answer["Body"].read()) == {"predictions": EXPECTED}
    answer = sagemaker.invoke_endpoint(EndpointName="iris", Body=body, ContentType=content_type, Accept="text/csv")
    assert (answer["ContentType"], answer["Body"].read()) == ("text/csv; charset=utf-8", b"0\n2\n")
    lines = "application/jsonlines"
    answer = sagemaker.invoke_endpoint(EndpointName="iris", Body=body, ContentType=content_type, Accept=lines)
    assert answer["Body"].read() == b"0\n2\n"


def test_sagemaker_tells_how_to_batch(iris_server: Server, mixed_server: Server) -> None:
    found = iris_server.get("/execution-parameters").json()
    assert found["BatchStrategy"] == "MULTI_RECORD"
    assert found["MaxPayloadInMB"] > 0
    assert mixed_server.get("/execution-parameters").status_code == 200


def test_azureml(iris_server: Server) -> None:
    assert iris_server.get("/").status_code == 200
    assert iris_server.get("/ready").status_code == 200
    split = {"columns": IRIS, "index": [0, 1], "data": ROWS}
    assert iris_server.post("/score", {"input_data": split}).json() == EXPECTED
    assert iris_server.post("/score", {"input_data": FRAME.to_dict(orient="list")}).json() == EXPECTED
    assert iris_server.post("/score", {"input_data": ROWS}).json() == EXPECTED
    assert iris_server.post("/score", {"dataframe_records": FRAME.to_dict(orient="records")}).json() == {
        "predictions": EXPECTED
    }
    assert iris_server.post("/score", {"input_data": 5}).status_code == 400
    assert iris_server.post("/score", {"input_data": split, "params": 1}).status_code == 400


def test_product(iris_server: Server) -> None:
    headers = {"content-type": "application/json"}
    body = FRAME.to_json(orient="split")
    answer = requests.post(iris_server.url + "/predict", data=body, headers=headers, timeout=10)
    assert answer.json() == {"predictions": EXPECTED}
    without = requests.post(iris_server.url + "/predict", data=body, timeout=10)
    assert without.json() == {"predictions": EXPECTED}


def test_pandas_reads_what_it_asks_for(mixed_server: Server) -> None:
    body = {"dataframe_records": [MIXED_ROW, MIXED_ROW]}
    answer = mixed_server.post("/invocations", body, headers={"accept": "text/csv; header=present"})
    import io

    frame = pd.read_csv(io.StringIO(answer.text))
    assert frame["total"].tolist() == [4.5, 4.5]
    answer = mixed_server.post("/invocations", body)
    assert pd.DataFrame(answer.json()["predictions"])["words"].tolist() == [4, 4]


@pytest.fixture
def client(iris_server: Server) -> Iterator[triton.InferenceServerClient]:
    """The Open Inference Protocol's client."""
    with triton.InferenceServerClient(f"127.0.0.1:{iris_server.port}") as found:
        yield found


def _column(name: str, values: list[float], *, binary: bool, shape: tuple[int, ...] = (2,)) -> triton.InferInput:
    found = triton.InferInput(name, list(shape), "FP64")
    found.set_data_from_numpy(np.array(values).reshape(shape), binary_data=binary)
    return found


def test_open_inference_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris")
    assert client.is_model_ready("iris", "1")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["name"] == "slipway-scoring"
    metadata = client.get_model_metadata("iris")
    assert [item["name"] for item in metadata["inputs"]] == IRIS
    assert {item["datatype"] for item in metadata["inputs"]} == {"FP64"}


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_open_inference_columns(client: triton.InferenceServerClient, binary: bool, shape: tuple[int, ...]) -> None:
    inputs = [_column(name, FRAME[name].tolist(), binary=binary, shape=shape) for name in IRIS]
    outputs = [triton.InferRequestedOutput("predictions", binary_data=binary)]
    answer = client.infer("iris", inputs, outputs=outputs, request_id="abc", model_version="1")
    assert answer.as_numpy("predictions").tolist() == EXPECTED
    assert answer.get_response()["id"] == "abc"
    assert client.infer("iris", inputs).as_numpy("predictions").tolist() == EXPECTED


def test_open_inference_one_table(client: triton.InferenceServerClient) -> None:
    table = triton.InferInput("table", [2, 4], "FP32")
    table.set_data_from_numpy(np.array(ROWS, dtype=np.float32))
    assert client.infer("iris", [table]).as_numpy("predictions").tolist() == EXPECTED


def test_open_inference_compressed(client: triton.InferenceServerClient) -> None:
    inputs = [_column(name, FRAME[name].tolist(), binary=True) for name in IRIS]
    answer = client.infer("iris", inputs, request_compression_algorithm="gzip")
    assert answer.as_numpy("predictions").tolist() == EXPECTED


def test_open_inference_strings_and_frames(tmp_path: Path) -> None:
    from tests.scoring import models

    code = """
        import pandas as pd

        class CustomPreprocessor:
            def predict(self, frame):
                return pd.DataFrame({"upper": frame["word"].str.upper(), "long": frame["count"] > 2})
    """
    inputs = [{"name": "word", "type": "string"}, {"name": "count", "type": "long"}]
    directory = models.bundle_model(tmp_path / "m", code, inputs)
    with (
        Server(directory, SLIPWAY_MODEL_NAME="words") as server,
        triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client,
    ):
        for binary in (True, False):
            words = triton.InferInput("word", [2], "BYTES")
            words.set_data_from_numpy(np.array(["a", "schön"], dtype=object), binary_data=binary)
            counts = triton.InferInput("count", [2], "INT32")
            counts.set_data_from_numpy(np.array([1, 5], dtype=np.int32), binary_data=binary)
            wishes = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("upper", "long")]
            answer = client.infer("words", [words, counts], outputs=wishes)
            upper = [item.decode() if isinstance(item, bytes) else item for item in answer.as_numpy("upper")]
            assert upper == ["A", "SCHÖN"]
            assert answer.as_numpy("long").tolist() == [False, True]


def test_open_inference_tensors(tmp_path: Path) -> None:
    with (
        Server(tensor_model(tmp_path / "m")) as server,
        triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client,
    ):
        tensor = triton.InferInput("x", [2, 3], "FP32")
        tensor.set_data_from_numpy(np.arange(6, dtype=np.float32).reshape(2, 3))
        assert client.infer("bundle", [tensor]).as_numpy("predictions").tolist() == [3.0, 12.0]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"inputs": []},
        {"inputs": [{"name": "x"}]},
        {"inputs": [{"name": "sepal_length", "shape": [1], "datatype": "FP64", "data": [1.0]}]},
        {"inputs": [{"name": "t", "shape": [1, 4], "datatype": "FP64", "data": [1, 2, 3]}]},
        {"inputs": [{"name": "t", "shape": [1, 4], "datatype": "FP64", "data": ["a", "b", "c", "d"]}]},
        {"inputs": [{"name": "t", "shape": [-1, 4], "datatype": "FP64", "data": [1, 2, 3, 4]}]},
        {"inputs": [{"name": "t", "shape": [1, 4], "datatype": "FP65", "data": [1, 2, 3, 4]}]},
        {"inputs": [{"name": "t", "shape": [1, 4], "datatype": "FP64", "parameters": {"binary_data_size": 32}}]},
        {
            "inputs": [{"name": "t", "shape": [1, 4], "datatype": "FP64", "data": [1, 2, 3, 4]}],
            "outputs": [{"name": "no"}],
        },
        {"inputs": [{"name": "t", "shape": [1, 4], "datatype": "FP64", "data": [1, 2, 3, 4]}], "outputs": 5},
    ],
)
def test_open_inference_refusals(iris_server: Server, body: Any) -> None:
    answer = iris_server.post("/v2/models/iris/infer", body)
    assert answer.status_code == 400
    assert answer.json()["error_code"] == "BAD_REQUEST"


def test_under_a_root_path(iris_directory: Path) -> None:
    with Server(iris_directory, "--root-path", "/endpoints/iris") as server:
        answer = server.post("/endpoints/iris/invocations", {"instances": [IRIS_ROW]})
        assert answer.json() == {"predictions": [0]}
        assert server.get("/endpoints/iris/v2/models/iris").status_code == 200
        assert server.get("/openapi.json").json()["servers"] == [{"url": "/endpoints/iris"}]
        assert server.get("/endpoints/iris/docs").status_code == 200
