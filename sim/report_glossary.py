"""What the words of the report mean."""

from __future__ import annotations

__all__ = ["GLOSSARY"]

GLOSSARY = (
    ("policy", "Decides for every request where to cut the network and how much to send."),
    (
        "clairvoyant",
        "Knows the path of the channel and what the network will answer: something to compare with, no rival.",
    ),
    ("accuracy", "Share of the answered requests whose answer is the true class."),
    (
        "utility",
        "1 for a correct answer and 0 for a wrong one, less weighted latency, energy and airtime, and a "
        "charge for lateness; the weights stand in the scenario. Higher is better, 1 cannot be reached.",
    ),
    (
        "±",
        "Half the width of a 95 % interval of the mean, requests taken as independent. All policies saw the "
        "same inputs, arrivals and fading, so differences between them are surer than the intervals suggest.",
    ),
    ("latency", "From the arrival of an input at its device to the answer there, waiting included."),
    (
        "median, 95 %, 99 %",
        "The time within which half, 95 % or 99 % of the answered requests were answered.",
    ),
    ("uplink", "Bytes of the request message as sent to the server; 0 where the device answered alone."),
    ("energy", "What a device spends on a request: computing, sending, receiving, waiting for the reply."),
    ("on device", "Share of requests answered on the device, early exits and fallbacks alike."),
    ("exit", "A small classifier inside the network that may answer before its end if it is sure enough."),
    ("split", "How many blocks the device runs at most before it sends; 0 sends the input itself."),
    ("keep, dims, bits", "Share of the patches sent, numbers per patch, and bits per number."),
    (
        "degraded",
        "Neither the chosen exit nor the server answered in time: the device fell back on its best answer so far.",
    ),
    ("late", "Answered after the deadline."),
    ("lost", "Never answered; this must be 0."),
    ("estimated rate", "What the device believed the link to carry when it decided; not the truth."),
)
