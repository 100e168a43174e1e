"""Answers images on this device, with a server's help where it is there and the device is not sure.

splitpoint serve --listen 127.0.0.1:50051            # on the server
splitpoint export clutter --out exported             # once, where torch is; then copy the folder
python examples/client.py 127.0.0.1:50051 exported image.png ...
"""

import sys

from splitpoint.device.client import Client


def main(address: str, model: str, images: list[str]) -> None:
    with Client(address, model, deadline_s=0.5) as client:
        for image in images:
            answer = client.infer(image)
            note = " (degraded: the server did not answer)" if answer.degraded else ""
            print(
                f"{image}: {answer.class_name}, margin {answer.margin:.2f}, {answer.where} "
                f"in {answer.latency_s * 1e3:.1f} ms{note}"
            )


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit("usage: client.py ADDRESS MODEL IMAGE ...")
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
