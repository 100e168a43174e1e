"""Split learning on the server: what is refused, that nothing is learned twice, and that checkpoints hold."""

from __future__ import annotations

import asyncio
import itertools
import threading

import grpc
import numpy as np
import pytest

from splitpoint.codec.halves import half_bytes
from splitpoint.codec.train_step import gradient_bytes, train_crc
from splitpoint.protos import PROTOCOL_VERSION
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.protos.client import LinkDown, ServiceClient
from splitpoint.server.config import TrainingConfig
from splitpoint.server.refusals import Rejected
from splitpoint.server.service import InferenceService
from splitpoint.server.training import TrainService

NAMES = (f"{number:032x}" for number in itertools.count())
B, CUT = 6, 2


@pytest.fixture
def service(small, tmp_path):
    yield from _service(small, TrainingConfig(folder=tmp_path / "training", max_batch=16))


def _service(small, config):
    from splitpoint.models.store import load_network

    service = TrainService(small.card, lambda: load_network(small.path)[0], config)
    yield service
    service.close()


class Device:
    """Writes requests as a device does; the arrays are random."""

    def __init__(self, small, service, name=None, **plan):
        self.card, self.service, self.name = small.card, service, name or next(NAMES)
        self.random = np.random.default_rng(1)
        self.plan = {
            "method": "none", "rate": 1.0, "steps": 20, "batch": 8, "learning_rate": 1e-2, "send_labels": True
        } | plan  # fmt: skip
        self.step = 0

    def request(self, **fields):
        values = {
            "protocol_version": PROTOCOL_VERSION,
            "model_id": self.card.id,
            "session": self.name,
            "step": self.step,
            "split": CUT,
        } | fields
        request = pb.TrainStepRequest(**values)
        if "payload_crc" not in fields:
            request.payload_crc = train_crc(request)
        return request

    def ask(self, request):
        reply = pb.TrainStepReply.FromString(self.service.answer(request.SerializeToString()))
        self.step = reply.step
        return reply

    def open(self, resume=0):
        self.ask(self.request(plan=pb.TrainPlan(**self.plan, resume_step=resume)))
        return self

    def batch(self, rows=B, **fields):
        shape = (rows, self.card.patch_tokens + 1, self.card.dim)
        values = {
            "samples": shape[0], "tokens": shape[1], "dims": shape[2], "outputs": rows,
            "activations": half_bytes(self.random.standard_normal(shape)),
        }  # fmt: skip
        if self.plan["send_labels"]:
            values["classes"] = self.random.integers(0, self.card.class_count, rows).astype("<u2").tobytes()
        return self.request(**(values | fields))


def refused(device, request, code, text):
    with pytest.raises(Rejected, match=text) as caught:
        device.ask(request)
    assert caught.value.code is getattr(grpc.StatusCode, code)


def test_steps_lower_the_loss_of_a_batch(small, service):
    device = Device(small, service).open()
    first = device.ask(device.batch())
    assert device.step == first.step == 1
    fields = {"activations": device.batch().activations, "classes": device.batch().classes}
    losses = [device.ask(device.batch(**fields)).loss for _ in range(12)]
    assert losses[-1] < 0.6 * losses[0]


def test_a_repeated_step_is_answered_and_not_learned_twice(small, service):
    device = Device(small, service).open()
    request = device.batch()
    first = device.ask(request)
    assert device.ask(request) == first
    # Whoever asks another thing at a step that is taken is told where the session stands.
    device.step = 0
    refused(device, device.batch(), "FAILED_PRECONDITION", "step: the session stands at 1, not 0")


def test_the_loss_can_stay_on_the_device(small, service):
    device = Device(small, service, send_labels=False).open()
    request = device.batch()
    reply = device.ask(request)
    assert len(reply.logits) == 2 * B * small.card.class_count
    assert not reply.activations_gradient
    assert device.ask(request) == reply
    gradient, scale = gradient_bytes(device.random.standard_normal((B, small.card.class_count)))
    answered = device.request(logits_gradient=gradient, gradient_scale=scale)
    returned = device.ask(answered)
    assert returned.step == 1
    assert len(returned.activations_gradient) == len(request.activations)
    device.step = 0
    assert device.ask(answered) == returned


def test_a_gradient_without_its_logits_is_refused(small, service):
    device = Device(small, service, send_labels=False).open()
    gradient, scale = gradient_bytes(np.ones((B, small.card.class_count), np.float32))
    request = device.request(logits_gradient=gradient, gradient_scale=scale)
    refused(device, request, "FAILED_PRECONDITION", "no logits were given")


def test_evaluation_changes_nothing(small, service):
    first, second = Device(small, service).open(), Device(small, service).open()
    evaluation = first.batch(evaluate=True, classes=b"")
    before = first.ask(evaluation).logits
    assert len(before) == 2 * B * small.card.class_count
    assert first.ask(first.batch(evaluate=True, classes=b"")).logits != before
    assert first.step == 0
    second.batch(), second.batch()  # so that both have drawn the same
    assert first.ask(first.batch()).loss == second.ask(second.batch()).loss


def test_training_goes_on_from_a_checkpoint_as_if_nothing_had_been(small, service):
    device = Device(small, service, method="bottlenet++", rate=0.5, send_labels=False).open()

    def steps(count, seed):
        device.random, found = np.random.default_rng(seed), []
        for _ in range(count):
            shape = (B, 17, 12)
            found.append(
                device.ask(
                    device.batch(tokens=17, dims=12, activations=half_bytes(device.random.random(shape)))
                )
            )
            gradient, scale = gradient_bytes(device.random.standard_normal((B, small.card.class_count)))
            found.append(device.ask(device.request(logits_gradient=gradient, gradient_scale=scale)))
        return found

    steps(3, 0)
    device.ask(device.request(checkpoint=True))
    expected = steps(3, 1)
    device.step = 0
    device.open(resume=3)
    assert device.step == 3
    assert steps(3, 1) == expected


def test_only_the_last_two_checkpoints_are_kept_and_the_tail_is_written(small, service, tmp_path):
    from splitpoint.models.split_halves import read_tensors

    device = Device(small, service).open()
    for _ in range(4):
        device.ask(device.request(checkpoint=True))
        device.ask(device.batch())
    device.ask(device.request(finish=True))
    folder = tmp_path / "training" / device.name
    assert sorted(path.name for path in folder.iterdir()) == [
        "step-0000000002.safetensors", "step-0000000003.safetensors", "tail.safetensors"
    ]  # fmt: skip
    names = read_tensors(folder / "tail.safetensors")[0].keys()
    assert {name.split(".")[0] for name in names} == {"blocks", "exits", "phi"}
    assert {name.split(".")[1] for name in names if name.startswith("blocks")} == {"2", "3"}


def test_a_session_without_its_checkpoint_is_not_found(small, service):
    device = Device(small, service)
    refused(device, device.batch(), "NOT_FOUND", "session: not known here")
    plan = pb.TrainPlan(**device.plan, resume_step=5)
    refused(device, device.request(plan=plan), "NOT_FOUND", "no checkpoint of step 5")


def test_a_broken_checkpoint_is_the_servers_fault_and_named_in_its_log_only(small, service, tmp_path, caplog):
    device = Device(small, service).open()
    device.ask(device.request(checkpoint=True))
    path = tmp_path / "training" / device.name / "step-0000000000.safetensors"
    path.rename(path.with_name("step-0000000005.safetensors")).write_bytes(b"junk")
    plan = pb.TrainPlan(**device.plan, resume_step=5)
    refused(device, device.request(plan=plan), "INTERNAL", "its log says why")
    assert "step-0000000005.safetensors" in caplog.text


def test_sessions_are_bounded_in_memory_and_on_disk(small, tmp_path):
    for service in _service(small, TrainingConfig(folder=tmp_path, max_sessions=2, max_kept=2)):
        first, second, third = (Device(small, service) for _ in range(3))
        first.open(), second.open()
        plan = third.request(plan=pb.TrainPlan(**third.plan))
        refused(third, plan, "RESOURCE_EXHAUSTED", "2 are in training")
        first.ask(first.request(finish=True))  # makes room
        third.open()
        second.ask(second.request(finish=True)), third.ask(third.request(finish=True))
        plan = Device(small, service).request(plan=pb.TrainPlan(**third.plan))
        refused(third, plan, "RESOURCE_EXHAUSTED", "2 sessions' files are kept")


def test_a_finish_that_is_repeated_is_answered_and_leaves_its_place_free(small, tmp_path):
    for service in _service(small, TrainingConfig(folder=tmp_path, max_sessions=1)):
        first = Device(small, service).open()
        finish = first.request(finish=True)
        assert first.ask(finish) == first.ask(finish)
        assert Device(small, service).open().step == 0


def test_a_course_that_is_begun_anew_keeps_its_own_checkpoints(small, service, tmp_path):
    first = Device(small, service).open()
    for _ in range(4):
        first.ask(first.batch())
        first.ask(first.request(checkpoint=True))
    again = Device(small, service, first.name, steps=30).open()
    again.ask(again.batch())
    again.ask(again.request(checkpoint=True))
    folder = tmp_path / "training" / first.name
    assert [path.name for path in folder.iterdir()] == ["step-0000000001.safetensors"]
    assert again.open(resume=1).step == 1


NAN = np.full((B, 17, 24), np.nan, "<f2").tobytes()
HOSTILE = {
    "another version": ({"protocol_version": 9}, "FAILED_PRECONDITION", "protocol_version"),
    "another model": ({"model_id": "0" * 16}, "FAILED_PRECONDITION", "model_id"),
    "a path for a session": ({"session": "../../etc/x" + "0" * 21}, "INVALID_ARGUMENT", "session"),
    "upper case": ({"session": "A" * 32}, "INVALID_ARGUMENT", "session"),
    "two things": ({"checkpoint": True}, "INVALID_ARGUMENT", "batch and checkpoint"),
    "another cut": ({"split": 1}, "INVALID_ARGUMENT", "split"),
    "more rows than planned": ({"outputs": 9}, "INVALID_ARGUMENT", "outputs"),
    "a row": ({"outputs": 1, "samples": 1}, "INVALID_ARGUMENT", "outputs"),
    "a product that wraps": ({"tokens": 1 << 31, "dims": 1 << 31}, "INVALID_ARGUMENT", "samples, tokens, dims"),
    "short activations": ({"activations": b"ab"}, "INVALID_ARGUMENT", "activations: must have"),
    "nan": ({"activations": NAN}, "INVALID_ARGUMENT", "activations: must be finite"),
    "a wrong crc": ({"payload_crc": 1}, "INVALID_ARGUMENT", "payload_crc"),
    "indices": ({"indices": b"x"}, "INVALID_ARGUMENT", "indices"),
    "no labels": ({"classes": b""}, "INVALID_ARGUMENT", "labels"),
    "few classes": ({"classes": b"\0\0"}, "INVALID_ARGUMENT", "classes"),
    "a class too high": ({"classes": b"\5\0" * B}, "INVALID_ARGUMENT", "classes: must be below 5"),
    "labels that sum to 2": (
        {"classes": b"", "labels": np.full((B, 5), 0.4, "<f2").tobytes()}, "INVALID_ARGUMENT", "distributions"
    ),
    "negative labels": (
        {"classes": b"", "labels": np.tile(np.array([2, -1, 0, 0, 0], "<f2"), B).tobytes()},
        "INVALID_ARGUMENT", "distributions",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_batches_are_refused_and_the_session_goes_on(small, service, what):
    fields, code, text = HOSTILE[what]
    device = Device(small, service).open()
    refused(device, device.batch(**fields), code, text)
    assert device.ask(device.batch()).step == 1


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"method": "zip"}, "unknown method"),
        ({"method": "a" * 1_000_000}, "plan.method: must have at most 64 characters"),
        ({"rate": 0.0}, "plan.rate"),
        ({"rate": float("nan")}, "plan.rate"),
        ({"steps": 0}, "plan.steps"),
        ({"batch": 17}, "plan.batch: at most 16"),
        ({"learning_rate": float("inf")}, "plan.learning_rate"),
        ({"method": "c3-sl", "rate": 1e-6}, "rate"),
        ({"seed": 1 << 63}, "plan.seed"),
        ({"resume_step": 21}, "plan.resume_step"),
    ],
)
def test_hostile_plans_are_refused(small, service, fields, text):
    device = Device(small, service)
    refused(device, device.request(plan=pb.TrainPlan(**(device.plan | fields))), "INVALID_ARGUMENT", text)


def test_undecodable_bytes_are_refused(small, service):
    with pytest.raises(Rejected, match="not a TrainStepRequest"):
        service.answer(b"\xff\xff\xff")


def test_huge_activations_and_gradients_are_refused_or_learned_but_never_nan(small, service):
    device = Device(small, service, send_labels=False).open()
    device.ask(device.batch(activations=np.full((B, 17, 24), 65504, "<f2").tobytes()))
    gradient = np.full((B, 5), 65504, "<f2").tobytes()
    reply = device.ask(device.request(logits_gradient=gradient, gradient_scale=1.0))
    assert np.isfinite(np.frombuffer(reply.activations_gradient, "<f2").astype(float)).all()
    assert np.isfinite(np.frombuffer(device.ask(device.batch()).logits, "<f2").astype(float)).all()


def test_a_gradient_that_overflows_is_refused_and_the_step_can_be_taken_again(small, service):
    device = Device(small, service, send_labels=False).open()
    batch, gradient = device.batch(), np.full((B, 5), 65504, "<f2").tobytes()
    logits = device.ask(batch).logits
    beyond_float32 = device.request(logits_gradient=gradient, gradient_scale=1e-38)
    refused(device, beyond_float32, "INVALID_ARGUMENT", "gradient_scale: gives values that are not finite")
    within = device.request(logits_gradient=gradient, gradient_scale=2e-34)
    refused(device, within, "INVALID_ARGUMENT", "gradient that is not finite")
    # Its logits were thrown away with it: the same batch is run again, and not answered from memory.
    assert device.ask(batch).logits == logits
    assert device.ask(device.request(logits_gradient=gradient, gradient_scale=65504.0)).step == 1


def test_what_waits_for_the_training_thread_is_bounded(small, service):
    async def main():
        request = Device(small, service).request(finish=True).SerializeToString()
        return await asyncio.gather(*(service.step(request) for _ in range(40)), return_exceptions=True)

    codes = [error.code for error in asyncio.run(main())]
    assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == 40 - 16
    assert codes.count(grpc.StatusCode.NOT_FOUND) == 16


def test_callers_who_give_up_do_not_make_room_before_their_step_is_done(small, service):
    async def main():
        request = Device(small, service).request(finish=True).SerializeToString()
        busy = threading.Event()
        service._pool.submit(busy.wait)
        callers = [asyncio.create_task(service.step(request)) for _ in range(16)]
        await asyncio.sleep(0)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        with pytest.raises(Rejected, match="16 training steps are waiting"):
            await service.step(request)
        busy.set()
        for _ in range(500):
            try:
                await service.step(request)
            except Rejected as refusal:
                if refusal.code is grpc.StatusCode.NOT_FOUND:  # it was let in
                    return
            await asyncio.sleep(0.01)
        raise AssertionError("no room was made")

    asyncio.run(main())


def test_a_draining_server_ends_the_step_in_work_and_takes_no_other():
    async def main():
        taken, may_end = [], asyncio.Event()

        async def train(data):
            taken.append(data)
            await may_end.wait()
            return b""

        service = InferenceService(None, train=train)
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((service.handler(),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with ServiceClient(f"127.0.0.1:{port}") as client:
            first = asyncio.create_task(client.train_step(pb.TrainStepRequest(), 10.0))
            while not taken:
                await asyncio.sleep(0.01)
            draining = asyncio.create_task(service.drain(60.0))
            await asyncio.sleep(0)
            with pytest.raises(LinkDown, match="shutting down"):
                await client.train_step(pb.TrainStepRequest(), 2.0)
            may_end.set()
            await asyncio.gather(first, draining)
        await server.stop(None)
        assert len(taken) == 1

    asyncio.run(asyncio.wait_for(main(), 30.0))
