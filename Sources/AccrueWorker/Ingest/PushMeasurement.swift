public import AccrueCore
import AccrueWire
import Dispatch
import Foundation
import Synchronization

/// What one push after the other takes a worker, without sockets and without a coordinator: the message is read, the chunk checked and kept on disk,
/// its announcement written, the coordinator's answer read, and the acknowledgement written.
public struct PushMeasurement: Sendable {
    private let spool: Spool
    private let schema: Schema
    private let pushes: [[Data]]

    /// - Parameters:
    ///   - folder: for the spool.
    ///   - chunks: as many that differ, of `rows` rows of `width` Float32.
    public init(
        folder: String, chunks: Int, rows: Int, width: Int, fatal: @escaping @Sendable (AccrueError) -> Void
    ) throws(AccrueError) {
        spool = try Spool(folder: folder, report: { _ in }, fatal: fatal)
        schema = Schema([TensorSchema("inputs", role: .input, dtype: .f32, shape: [width])])
        var pushes: [[Data]] = []
        for chunk in 0..<chunks {
            let values = (0..<rows * width).map { Float(($0 &* 2_654_435_761 &+ chunk) & 0xFFFF) }
            let bytes = Safetensors(tensors: ["inputs": TensorBytes(values, shape: [rows, width])]).encode()
            pushes.append(try Message(.push, id: "push-\(chunk)", encoding: Push(pipeline: "measured"), payload: [bytes]).frames())
        }
        self.pushes = pushes
    }

    /// The time of each push, in milliseconds.
    /// - Throws: what the disk does.
    public func run() throws(AccrueError) -> [Double] {
        var times: [Double] = []
        for (index, frames) in pushes.enumerated() {
            let start = MonotonicTime.now()
            let message = try Message(frames: frames), push = try message.read(Push.self), bytes = message.joinedPayload
            let rows = try Ingest.rows(in: bytes, schema: schema, while: "taking a chunk")
            let chunk = LogEntry.Chunk(identity: rows.identity, key: push.key, rows: rows.count, bytes: bytes.count)
            try keep(chunk, bytes)
            let announce = Announce(worker: "worker-0", pipeline: push.pipeline, incarnation: "measured", items: [.init(chunk)])
            _ = try Message(.announce, id: "announce-\(index)", encoding: announce).frames()
            let answer = try Message.reply("announce-\(index)", encoding: AnnounceReply(results: [.taken(at: index + 1, duplicate: false)])).frames()
            let taken = try Message(frames: answer).read(AnnounceReply.self).results[0].acknowledgement(of: chunk.identity)
            _ = try Message.reply(message.id, encoding: taken).frames()
            times.append(start.elapsedMs)
        }
        return times
    }

    private func keep(_ chunk: LogEntry.Chunk, _ bytes: Data) throws(AccrueError) {
        let done = DispatchSemaphore(value: 0), failure = Mutex<AccrueError?>(nil)
        spool.append(chunk, incarnation: "measured", bytes: bytes) { result in
            if case .failure(let error) = result { failure.withLock { $0 = error } }
            done.signal()
        }
        done.wait()
        if let error = failure.withLock({ $0 }) { throw error }
    }
}
