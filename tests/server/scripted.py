"""Learners without networks, in this process or, run as a program, in one of their own: NAME CONFIG."""

import sys
import time
import zlib

import numpy as np

from splitpoint.server.config import ServerConfig
from splitpoint.server.engine import Parts
from splitpoint.server.gate_work import LearnerCard
from splitpoint.server.serve import main

CLASSES = 5


class ScriptedLearner:
    """A learner without a network: `says(image, gate)` is its opinion. A state is the image and the gates behind it."""

    def __init__(self, name, says=None, *, gates=3, pause_s=0.0, shape=(16, 16, 1)):
        self.card = LearnerCard(
            name, name.ljust(16, "0"), CLASSES, tuple(100 * (g + 1) for g in range(gates)), shape
        )
        self.batches, self._pause_s = [], pause_s
        self._says = says or (lambda image, gate: leaning(int(image[0, 0, 0]) % CLASSES, 0.3 + 0.2 * gate))

    def begin(self, values):
        return [(image, 0) for image in values]

    def advance(self, states, gate):
        assert [done for _, done in states] == [gate] * len(states)
        self.batches.append((gate, len(states)))
        if self._pause_s:
            time.sleep(self._pause_s)
        said = np.stack([self._says(image, gate) for image, _ in states])
        return said, [(image, gate + 1) for image, _ in states]


def leaning(prediction, strength):
    """An opinion (C,) for a class, as it would travel."""
    rest = (1.0 - strength) / CLASSES
    found = np.full(CLASSES, rest)
    found[prediction] += strength
    return found.astype(np.float16).astype(np.float32)


def varied(name):
    """What a learner of this name says: mostly what the others say, and the surer the later the gate."""

    def says(image, gate):
        data = image.tobytes()
        common, own = zlib.crc32(data), zlib.crc32(name.encode() + data)
        return leaning((common if own % 4 else own) % CLASSES, 0.2 + 0.2 * gate + 0.01 * (own % 7))

    return says


ScriptedLearner.leaning = staticmethod(leaning)

if __name__ == "__main__":
    name = sys.argv[1]
    main(
        ServerConfig.model_validate_json(sys.argv[2]),
        Parts(runners={name: ScriptedLearner(name, varied(name))}),
    )
