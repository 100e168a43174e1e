from pathlib import Path

import splitpoint.protos
from splitpoint.protos.generate import generate


def test_the_committed_code_is_what_the_proto_generates(tmp_path):
    generate(tmp_path)
    committed = Path(splitpoint.protos.__file__).parent
    made = sorted((tmp_path / "splitpoint" / "protos").iterdir())
    assert [path.name for path in made] == [
        "splitpoint_pb2.py",
        "splitpoint_pb2.pyi",
        "splitpoint_pb2_grpc.py",
    ]
    for path in made:
        assert path.read_text() == (committed / path.name).read_text(), f"{path.name}: run `make protos`"
