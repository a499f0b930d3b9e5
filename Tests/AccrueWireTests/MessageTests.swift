import AccrueCore
import AccrueTesting
import AccrueWire
import Foundation
import Testing

@Suite("Messages and their frames")
struct MessageTests {
    @Test("a message read from its own frames is the same message")
    func roundTrip() throws {
        let message = Message("push", ["id": "7", "pipeline": "digits"], payload: [Data([1, 2, 3]), Data()])
        #expect(try Message(frames: message.frames()) == message)
        #expect(message.id == "7")
    }

    @Test("a refusal carries its error whole")
    func refusal() throws {
        let error = AccrueError(.conflict, while: "pushing", "same key, other content", hint: "use another key", position: 4, retryAfterMs: 20)
        let message = try Message(frames: Message.refuse("a", error).frames())
        #expect(message.id == "a" && message.refusal == error)
        #expect(Message.reply("a").refusal == nil)
    }

    @Test("malformed frames are refused, each with its code")
    func malformed() {
        let version = Data(Message.protocolVersion.utf8), verb = Data("hello".utf8), header = Data("{}".utf8)
        let bad: [([Data], AccrueError.Code)] = [
            ([], .invalidInput), ([version, verb], .invalidInput), ([Data("accrue/9".utf8), verb, header], .invalidInput),
            ([version, Data(), header], .invalidInput), ([version, Data([0xFF, 0xFE]), header], .invalidInput),
            ([version, Data(repeating: 65, count: 65), header], .invalidInput), ([version, verb, Data("[1]".utf8)], .invalidInput),
            ([version, verb, Data("{".utf8)], .invalidInput),
            ([version, verb, Data(repeating: 91, count: 100_000)], .invalidInput),
            ([version, verb, header] + Array(repeating: Data(), count: 20), .limitExceeded),
            ([version, verb, header, Data(count: Limits.frameBytesMax + 1)], .limitExceeded),
            ([version, verb, Data(count: Limits.headerBytesMax + 1)], .limitExceeded),
        ]
        for (frames, code) in bad {
            #expect { try Message(frames: frames) } throws: { ($0 as? AccrueError)?.code == code }
        }
    }

    @Test("a message too large to send is refused before it is sent")
    func tooLarge() {
        #expect { try Message("push", payload: [Data(count: Limits.frameBytesMax + 1)]).frames() } throws: {
            ($0 as? AccrueError)?.code == .limitExceeded
        }
    }

    @Test("the headers of pushes say what their Codable form says")
    func pushHeaders() throws {
        let hash = ContentHash(of: Data([1])), chunk = LogEntry.Chunk(identity: hash, key: "k", rows: 3, bytes: 9)
        let replica = Replica(worker: "w", boot: "b"), refusal = AccrueError(.conflict, while: "testing", "no")
        for push in [Push(pipeline: "p"), Push(pipeline: "p", incarnation: "i", key: "", offset: 0, totalBytes: 7, hash: hash)] { #expect(try DirectCoding.agrees(push)) }
        #expect(try DirectCoding.agrees(Push(pipeline: "p", chunks: [Push.Part(bytes: 0), Push.Part(bytes: 7, key: "k")])))
        #expect(try DirectCoding.agrees(replica))
        for replicas in [nil, [], [replica, replica]] {
            let item = Announce.Item(chunk, replicas: replicas)
            #expect(try DirectCoding.agrees(item))
            #expect(try DirectCoding.agrees(Announce(worker: "w", pipeline: "p", incarnation: "i", items: [item, Announce.Item(chunk)])))
        }
        let taken = [AnnounceReply.Result.taken(at: 4, duplicate: false), .taken(at: 5, duplicate: true)]
        #expect(try DirectCoding.agrees(taken[0]))
        #expect(try DirectCoding.agrees(AnnounceReply(results: taken)))
        #expect(try DirectCoding.agrees(Acknowledgement(chunk: hash, position: 1, duplicate: true)))
        let acknowledged = Acknowledgement(chunk: hash, position: 1, duplicate: true)
        #expect(try DirectCoding.agrees(Acknowledgements([.success(acknowledged), .success(acknowledged)])))
        let some = Acknowledgements([.success(acknowledged), .failure(refusal)])
        #expect(some.json == nil)
        #expect(try Message(frames: Message.reply("a", encoding: some).frames()).read(Acknowledgements.self) == some)
        // An error among the results is written by Codable, with all that it says.
        let mixed = AnnounceReply(results: taken + [.refused(refusal)])
        #expect(mixed.json == nil)
        #expect(try Message(frames: Message.reply("a", encoding: mixed).frames()).read(AnnounceReply.self) == mixed)
    }

    @Test("random frames never crash the reader")
    func randomFrames() {
        var key = RandomKey(seed: 11)
        func bytes(_ count: Int) -> Data {
            var data = Data()
            while data.count < count {
                key = key.folding(count)
                withUnsafeBytes(of: key.low) { data.append(contentsOf: $0) }
            }
            return data.prefix(count)
        }
        for round in 0..<10_000 {
            let frames = (0..<round % 5).map { bytes(($0 * 7 + round) % 40) }
            #expect(throws: AccrueError.self) { try Message(frames: frames) }
        }
    }

    @Test("lease tasks survive the wire")
    func leaseTask() throws {
        let declaration = PipelineDeclaration(
            name: "digits", method: "Toy", seed: 1, schema: Schema([TensorSchema("inputs", role: .input, dtype: .u8, shape: [2])]), settings: ["a": 1.5],
            round: .init(chunks: 2))
        let identity = LeaseIdentity(pipeline: "digits", incarnation: "i", boot: "b", version: 3, attempt: 1, phase: .fit, sweep: 1, shard: 2)
        var score = Score()
        score.add(probabilities: [1 / 3, 2 / 3], target: 1)
        let task = LeaseTask(
            identity: identity, declaration: declaration, shards: 4, roundRows: 100, rowsBefore: 7, base: ContentHash(of: Data([1])),
            rows: [RowRange(position: 9, identity: ContentHash(of: Data([2])), firstRow: 3, rows: 5)], locations: ["x": ["ipc://y"]],
            parts: [.init(blob: ContentHash(of: Data([3])), rows: 5)], score: score)
        let message = try Message(frames: Message("lease", encoding: task).frames())
        let back: LeaseTask = try message.header.decode(while: "testing")
        #expect(back == task)
    }
}
