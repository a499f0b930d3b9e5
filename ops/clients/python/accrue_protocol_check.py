#!/usr/bin/env python3
"""Does to a running Accrue what ops/PROTOCOL.md says a client can do, and checks every answer.

Written from that page alone: pyzmq, safetensors and numpy, no line of Accrue. It is a test, and an example to copy from.

    accrue_protocol_check.py ENDPOINT [PIPELINE.json] [--key-file FILE]

ENDPOINT is the control endpoint; PIPELINE.json declares a regression pipeline with F64 tensors 'inputs' and 'targets' (one number a row).
Without it, a linear one of its own is used. A daemon with keys needs --key-file, the file of an owner's key. Exit code 0: all is as the page says.
"""
import argparse
import hashlib
import json
import random
import sys
import time
import uuid

import numpy
import zmq
from safetensors.numpy import load, save

PIPELINE = {
    "name": "protocol-check",
    "method": "IncrementalBayes",
    "seed": 1,
    "schema": [
        {"name": "inputs", "role": "input", "dtype": "F64", "shape": [2]},
        {"name": "targets", "role": "target", "dtype": "F64", "shape": []},
    ],
    "settings": {
        "model": {"kind": "linear", "bias": False},
        "likelihood": {"kind": "gaussian", "noisePrecision": 4},
        "prior": {"precision": 1},
        "inference": "variational",
        "family": "full",
    },
    "round": {"chunks": 100},
}


class Refused(Exception):
    """The other side said no."""

    def __init__(self, error):
        super().__init__(f"{error['code']}: while {error['operation']}: {error['problem']}")
        self.code = error["code"]
        self.retry_after_ms = error.get("retryAfterMs")


def connected(kind, endpoint, keys, **options):
    """A socket at an endpoint; where that is a CURVE socket (section 11), with the key of who listens there and the pair of `keys`, a key file's content."""
    socket = zmq.Context.instance().socket(kind)
    address, _, server = endpoint.partition("?key=")
    if server or (keys and address.startswith("tcp://")):
        if not keys:
            sys.exit(f"{address} is a CURVE socket: give the file of a key with --key-file")
        options |= {"curve_publickey": keys["publicKey"].encode(), "curve_secretkey": keys["secretKey"].encode(), "curve_serverkey": (server or keys["serverKey"]).encode()}
    for name, value in {"linger": 0, **options}.items():
        setattr(socket, name, value)
    socket.connect(address)
    return socket


class Socket:
    """One DEALER to one peer: requests with ids, sent again without an answer and when told to."""

    def __init__(self, endpoint, keys=None):
        self.socket = connected(zmq.DEALER, endpoint, keys, routing_id=b"c-" + uuid.uuid4().hex.encode())

    def ask(self, verb, header=None, payload=(), timeout=600.0):
        """The answer's header and its payload, joined."""
        identifier = uuid.uuid4().hex
        head = json.dumps({**(header or {}), "id": identifier}).encode()
        message = [b"accrue/1", verb.encode(), head, *payload]
        end = time.monotonic() + timeout
        wait = 1.0
        while time.monotonic() < end:
            self.socket.send_multipart(message)
            again = time.monotonic() + wait
            wait *= 2
            while (left := min(again, end) - time.monotonic()) > 0:
                if not self.socket.poll(left * 1_000):
                    continue
                version, kind, text, *rest = self.socket.recv_multipart()
                answer = json.loads(text)
                if answer.get("id") != identifier:
                    continue
                assert version == b"accrue/1", version
                if kind == b"reply":
                    return answer, b"".join(rest)
                assert kind == b"refuse", kind
                refusal = Refused(answer["error"])
                if refusal.code != "unavailable":
                    raise refusal
                time.sleep((refusal.retry_after_ms or 1_000) / 1_000 * random.uniform(1, 1.5))
                break
        raise TimeoutError(f"no answer to {verb}")

    def send_raw(self, frames):
        self.socket.send_multipart(frames)


def refused(code, ask, *arguments, **named):
    """Checks that a request is refused with a code."""
    try:
        answer = ask(*arguments, **named)
    except Refused as error:
        assert error.code == code, f"wanted {code}, got {error}"
        return
    raise AssertionError(f"wanted {code}, got {answer}")


def identity(tensors, schema):
    """The name of a chunk's content (section 6)."""
    digest = hashlib.sha256()
    for entry in schema:
        tensor = tensors[entry["name"]]
        shape = ",".join(str(size) for size in tensor.shape)
        digest.update(f"{entry['name']}\0{entry['dtype']}\0{shape}\0".encode() + tensor.tobytes())
    return digest.hexdigest()


def push(ingest, pipeline, blob, piece, key=None):
    """Pushes a chunk, in pieces if it is large; returns its acknowledgement."""
    header = {"pipeline": pipeline, **({"key": key} if key else {})}
    if len(blob) <= piece:
        return ingest.ask("push", header, [blob])[0]
    header |= {"totalBytes": len(blob), "hash": hashlib.sha256(blob).hexdigest()}
    for _ in range(3):
        for offset in range(0, len(blob), piece):
            answer, _payload = ingest.ask("push", {**header, "offset": offset}, [blob[offset : offset + piece]])
            if "position" in answer:
                return answer
            assert answer["complete"] is False and answer["received"] > 0, answer
    raise AssertionError("all pieces were answered, but they never became a chunk")


def rows(count, width, seed):
    """Rows of a known line with little noise."""
    source = numpy.random.default_rng(seed)
    inputs = source.normal(size=(count, width))
    return {"inputs": inputs, "targets": inputs.sum(axis=1) + source.normal(scale=0.1, size=count)}


def check_pushing(ingest, pipeline, schema, width, piece):
    """Pushes small, large, keyed and repeated chunks; returns the position of the last."""
    name = pipeline["name"]
    small, other, large = rows(50, width, 1), rows(50, width, 2), rows(100_000, width, 3)
    first = push(ingest, name, save(small), piece)
    assert first == {"chunk": identity(small, schema), "position": first["position"], "duplicate": first["duplicate"], "id": first["id"]}, first
    again = push(ingest, name, save(small), piece)
    assert again["duplicate"] and again["position"] == first["position"], again
    laid_out_otherwise = save({key: small[key] for key in reversed(small)}, metadata={"made": "by hand"})
    assert push(ingest, name, laid_out_otherwise, piece)["position"] == first["position"]

    keyed = push(ingest, name, save(other), piece, key="k/0")
    assert push(ingest, name, save(other), piece, key="k/0")["position"] == keyed["position"]
    refused("conflict", push, ingest, name, save(small), piece, key="k/0")
    twice = push(ingest, name, save(other), piece, key="k/1")
    assert twice["position"] != keyed["position"] and twice["chunk"] == keyed["chunk"], twice

    several = [save(small), b"abc", save(rows(50, width, 7))]
    header = {"pipeline": name, "chunks": [{"bytes": len(blob)} | ({"key": "k/2"} if index == 2 else {}) for index, blob in enumerate(several)]}
    results = ingest.ask("push", header, [b"".join(several)])[0]["results"]
    assert results[0] == {"chunk": first["chunk"], "position": first["position"], "duplicate": True}, results
    assert results[1]["error"]["code"] == "corrupt" and results[2]["chunk"] == identity(rows(50, width, 7), schema), results

    blob = save(large)
    assert len(blob) > 2 * piece
    whole = push(ingest, name, blob, piece)
    assert whole["chunk"] == identity(large, schema), whole
    again = push(ingest, name, blob, piece)
    assert again["duplicate"] and again["position"] == whole["position"], again
    return max(twice["position"], whole["position"])


def check_refusals(control, ingest, query, pipeline, width):
    """Everything that must be refused, with its code."""
    name = pipeline["name"]
    good = rows(3, width, 4)
    push_one = lambda blob, **more: ingest.ask("push", {"pipeline": name, **more}, [blob])
    bad = {
        "wrong dtype": {**good, "inputs": good["inputs"].astype(numpy.float32)},
        "wrong shape": {**good, "inputs": numpy.zeros((3, width + 1))},
        "unequal rows": {**good, "targets": good["targets"][:2]},
        "no rows": {"inputs": numpy.zeros((0, width)), "targets": numpy.zeros(0)},
        "a missing tensor": {"inputs": good["inputs"]},
        "an unknown tensor": {**good, "weights": good["targets"]},
        "NaN": {**good, "targets": numpy.array([1, numpy.nan, 2])},
        "infinity": {**good, "targets": numpy.array([1, numpy.inf, 2])},
    }
    for tensors in bad.values():
        refused("invalidInput", push_one, save(tensors))
    blob = save(good)
    for damaged in (b"", b"abc", blob[:-1], blob + b"\0", bytes(100)):
        refused("corrupt", push_one, damaged)
    refused("limitExceeded", push_one, (1 << 60).to_bytes(8, "little") + blob[8:])
    refused("corrupt", push_one, blob, hash="0" * 64)
    refused("invalidInput", push_one, blob, hash="x")
    refused("invalidInput", push_one, blob, offset=7, totalBytes=1 << 20, hash="0" * 64)
    refused("limitExceeded", push_one, blob, offset=0, totalBytes=1 << 40, hash="0" * 64)
    refused("limitExceeded", push_one, blob, key="k" * 513)
    refused("invalidInput", ingest.ask, "push", {"pipeline": name, "chunks": [{"bytes": len(blob) + 1}]}, [blob])
    refused("invalidInput", ingest.ask, "push", {"pipeline": name, "key": "k", "chunks": [{"bytes": len(blob)}]}, [blob])
    refused("notFound", ingest.ask, "push", {"pipeline": "no-such-pipeline"}, [blob])
    refused("invalidInput", ingest.ask, "status")
    refused("invalidInput", control.ask, "no.such.verb")
    refused("notFound", control.ask, "pipeline.show", {"pipeline": "no-such-pipeline"})
    refused("notFound", control.ask, "await", {"pipeline": name, "position": 1_000_000, "timeoutMs": 1})
    refused("conflict", control.ask, "pipeline.apply", {"declaration": {**pipeline, "seed": pipeline["seed"] + 1}})
    other = {**pipeline, "name": pipeline["name"] + "-other"}
    refused("invalidInput", control.ask, "pipeline.apply", {"declaration": {**other, "swepes": 2}})
    refused("invalidInput", control.ask, "pipeline.apply", {"declaration": {**other, "settings": {"no such setting": 1}}})
    refused("notFound", control.ask, "pipeline.apply", {"declaration": {**other, "method": "NoSuchMethod"}})
    predict = {"pipeline": name, "verb": "predict", "header": {}}
    inputs = save({"inputs": good["inputs"]})
    refused("notFound", query.ask, "query", {**predict, "pipeline": "no-such-pipeline"}, [inputs])
    refused("notFound", query.ask, "query", {**predict, "at": 1_000_000}, [inputs])
    refused("notFound", query.ask, "query", {**predict, "verb": "no-such-verb"}, [inputs])
    refused("invalidInput", query.ask, "query", {**predict, "header": {"no such key": 1}}, [inputs])
    refused("invalidInput", query.ask, "query", {"pipeline": name}, [inputs])
    refused("invalidInput", query.ask, "query", predict, [save({"inputs": numpy.zeros((3, width + 1))})])
    refused("corrupt", query.ask, "query", predict, [inputs[:-1]])


def check_garbage(endpoints, keys, count):
    """Random messages on every socket; each must go on answering."""
    source = random.Random(5)
    starts = [b"accrue/1", b"accrue/1", b"accrue/1", b"accrue/2", b""]
    verbs = [b"push", b"query", b"fetch", b"lease", b"announce", b"blob.put", b"blob.get", b"hello", b"done", b"drop", b"\xff"]
    heads = [b"{}", b'{"id":"x"}', b"[" * 3_000, b'{"id":1e400}', b'{"id":"x","pipeline":"protocol-check","offset":-1,"worker":"worker-0"}', b"\xff\xfe"]
    for endpoint in endpoints:
        attacker = Socket(endpoint, keys)
        for _ in range(count):
            frames = [source.choice(starts), source.choice(verbs), source.choice(heads)][: source.randrange(1, 4)]
            attacker.send_raw(frames + [source.randbytes(source.randrange(200)) for _ in range(source.randrange(20))])
        refused("invalidInput", attacker.ask, "no.such.verb")
        attacker.socket.close()


def check_querying(query, pipeline, schema, width, version):
    """predict and describe."""
    name, questions = pipeline["name"], rows(7, width, 6)
    inputs = save({"inputs": questions["inputs"]})
    header, payload = query.ask("query", {"pipeline": name, "verb": "predict", "header": {}}, [inputs])
    assert header["version"] == version and header["pipeline"] == name, header
    assert header["absorbedChunks"] >= 4 and header["absorbedRows"] >= 100_150, header
    assert header["header"]["rows"] == 7 and "figures" not in header["header"], header
    answer = load(payload)
    assert set(answer) == {"mean", "aleatoric", "epistemic", "lower", "upper"}, answer.keys()
    assert all(tensor.shape == (7,) and tensor.dtype == numpy.float64 for tensor in answer.values())
    assert numpy.all(answer["lower"] < answer["mean"]) and numpy.all(answer["mean"] < answer["upper"])
    assert numpy.abs(answer["mean"] - questions["inputs"].sum(axis=1)).max() < 0.1, answer["mean"]

    again = query.ask("query", {"pipeline": name, "verb": "predict", "header": {}, "at": version, "seed": 0}, [inputs])
    assert again[1] == payload
    scored, nothing = query.ask("query", {"pipeline": name, "verb": "predict", "header": {"summary": True}}, [save(questions)])
    assert nothing == b"" and 0 < scored["header"]["figures"]["rmse"] < 1, scored
    first, _ = query.ask("query", {"pipeline": name, "verb": "describe", "header": {}, "at": 0})
    assert first["version"] == 0 and first["absorbedChunks"] == 0 and first["header"]["method"] == pipeline["method"], first


def check_versions(control, bulk, name):
    """The newest version's record, and its state, fetched in pieces."""
    newest, _ = control.ask("posterior.show", {"pipeline": name})
    listing, _ = control.ask("posterior.list", {"pipeline": name})
    assert [version["version"] for version in listing["versions"]] == list(range(newest["version"] + 1)) and not listing["more"], listing
    state = b""
    while len(state) < newest["bytes"]:
        header, payload = bulk.ask("blob.get", {"hash": newest["hash"], "offset": len(state), "length": 1 << 20})
        assert header["totalBytes"] == newest["bytes"] and payload
        state += payload
    assert hashlib.sha256(state).hexdigest() == newest["hash"]
    load(state)
    refused("notFound", bulk.ask, "blob.get", {"hash": "0" * 64, "offset": 0, "length": 1})
    return newest["version"]


def main(endpoint, file=None, key_file=None):
    keys = json.load(open(key_file)) if key_file else None
    pipeline = json.load(open(file)) if file else PIPELINE
    schema, name = pipeline["schema"], pipeline["name"]
    width = schema[0]["shape"][0]
    control = Socket(endpoint, keys)
    welcome, _ = control.ask("hello", {"role": "client"})
    assert welcome["protocol"] == "accrue/1", welcome
    endpoints = welcome["endpoints"]
    ingest, query, bulk = (Socket(place, keys) for place in (endpoints["ingest"][0], endpoints["query"][0], endpoints["bulk"]))
    hints = connected(zmq.SUB, endpoints["events"], keys, subscribe=name.encode())

    applied, _ = control.ask("pipeline.apply", {"declaration": pipeline})
    assert control.ask("pipeline.apply", {"declaration": pipeline})[0] | {"id": 0} == applied | {"id": 0}
    last = check_pushing(ingest, pipeline, schema, width, welcome["limits"]["pieceBytes"])
    before, _ = control.ask("chunks.list", {"pipeline": name})
    check_refusals(control, ingest, query, pipeline, width)
    check_garbage([endpoint, endpoints["bulk"], *endpoints["ingest"], *endpoints["query"]], keys, 2_500)
    after, _ = control.ask("chunks.list", {"pipeline": name})
    assert [c["chunk"] for c in before["chunks"]] == [c["chunk"] for c in after["chunks"]], "something refused is in the log"

    control.ask("flush", {"pipeline": name})
    awaited, _ = control.ask("await", {"pipeline": name, "position": last, "timeoutMs": 600_000})
    assert awaited["state"] == "absorbed", awaited
    assert control.ask("flush", {"pipeline": name})[0].get("position") is None
    version = check_versions(control, bulk, name)
    assert version >= awaited["version"] >= 1
    served, _ = query.ask("query", {"pipeline": name, "verb": "describe", "header": {}, "atLeast": version})
    assert served["version"] >= version, served
    check_querying(query, pipeline, schema, width, version)

    topic, protocol, verb, head = hints.recv_multipart() if hints.poll(600_000) else (b"", b"", b"", b"{}")
    assert topic == name.encode() and protocol == b"accrue/1" and verb == b"hint" and json.loads(head)["pipeline"] == name, (topic, verb, head)
    status, _ = control.ask("status")
    assert {"worker", "querier"} <= {worker["role"] for worker in status["workers"]}, status
    assert control.ask("events", {"after": 0})[0]["events"], "nothing happened"
    print(f"all as the page says: pipeline {name}, version {version}")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("endpoint")
    arguments.add_argument("pipeline", nargs="?")
    arguments.add_argument("--key-file")
    given = arguments.parse_args()
    main(given.endpoint, given.pipeline, given.key_file)
