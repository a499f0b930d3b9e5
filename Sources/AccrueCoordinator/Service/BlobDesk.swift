import AccrueCore
import AccrueStore
import AccrueWire
import Foundation
import Synchronization

/// The bulk socket's side: takes what workers made, in pieces, and hands out blobs and states. Deltas and works are kept in memory only; they can be
/// made again.
final class BlobDesk: Sendable {
    /// Unfinished uploads together.
    private static let openBytesMax = 8 << 30
    /// States that stay in memory after they were read from disk.
    private static let statesBytesMax = 256 << 20
    private static let requestsMax = 4_096
    /// For how many calls of `tidy` a state that nobody asks for stays in memory.
    private static let statesTurns = 5
    /// A blob is put before it is named; within this it is left alone.
    private static let graceMs = 10_000

    private struct Blob {
        var bytes: Data
        var putAt: MonotonicTime
    }

    private let states: StateFiles
    private let read = RecentlyUsed<ContentHash, Data>(costMax: statesBytesMax)
    private let threads = WorkThreads("bulk")
    private let pieces = Mutex(PieceAssembly(bytesMax: Limits.blobBytesMax, openBytesMax: openBytesMax))
    private let blobs = Mutex<[ContentHash: Blob]>([:])
    private let send: @Sendable (Message, Peer) -> Void

    init(states: StateFiles, send: @escaping @Sendable (Message, Peer) -> Void) {
        self.states = states
        self.send = send
    }

    /// Takes what came on the bulk socket; on the loop's thread.
    func receive(_ incoming: Incoming) -> Intake {
        guard let peer = incoming.peer else { return .taken }
        guard threads.waiting < Self.requestsMax else { return .busy }
        threads.submit { [weak self] in
            guard let self else { return }
            do throws(AccrueError) { send(try answer(incoming.message, peer), peer) } catch { send(.refuse(incoming.message.id, error), peer) }
        }
        return .taken
    }

    /// A blob that is in memory.
    func blob(_ hash: ContentHash) -> Data? { blobs.withLock { $0[hash]?.bytes } }

    /// Lets go of blobs that nothing names, and of states that nobody asked for of late: what is held does not grow with the rounds that were learned.
    func tidy(keeping referenced: Set<ContentHash>) {
        let now = MonotonicTime.now()
        blobs.withLock { blobs in
            for (hash, blob) in blobs where !referenced.contains(hash) && now.ms(since: blob.putAt) >= Self.graceMs { blobs[hash] = nil }
        }
        read.endTurn(keeping: Self.statesTurns)
    }

    private func answer(_ message: Message, _ peer: Peer) throws(AccrueError) -> Message {
        switch message.known {
        case .blobPut: return try put(try message.read(), message, peer)
        case .blobGet: return try get(try message.read(), message)
        default:
            throw AccrueError(
                .invalidInput, while: "taking '\(message.verb)'", "a bulk socket understands blob.put and blob.get", hint: "send it to the control socket")
        }
    }

    private func put(_ put: BlobPut, _ message: Message, _ peer: Peer) throws(AccrueError) -> Message {
        let isHere = blobs.withLock { blobs in
            blobs[put.hash]?.putAt = .now()
            return blobs[put.hash] != nil
        }
        if isHere { return try .reply(message.id, encoding: PieceReply(complete: true, received: put.totalBytes)) }
        guard message.payload.count == 1 else {
            throw AccrueError(.invalidInput, while: "taking a blob", "\(message.payload.count) payload frames; one piece has exactly one", hint: "see ops/PROTOCOL.md")
        }
        let progress = try pieces.withLock { pieces throws(AccrueError) in
            try pieces.add(message.payload[0], offset: put.offset, totalBytes: put.totalBytes, hash: put.hash, scope: "\(peer)", at: .now())
        }
        switch progress {
        case .partial(let received): return try .reply(message.id, encoding: PieceReply(complete: false, received: received))
        case .whole(let bytes):
            blobs.withLock { $0[put.hash] = Blob(bytes: bytes, putAt: .now()) }
            return try .reply(message.id, encoding: PieceReply(complete: true, received: bytes.count))
        }
    }

    private func get(_ get: BlobGet, _ message: Message) throws(AccrueError) -> Message {
        let operation = "reading blob \(get.hash.short)"
        let bytes: Data
        if let known = blob(get.hash) ?? read[get.hash] { bytes = known } else {
            guard states.exists(get.hash) else {
                throw AccrueError(.notFound, while: operation, "there is no such blob or state here", hint: "ask for the version's hash again")
            }
            bytes = try states.read(get.hash)
            read.insert(bytes, for: get.hash, cost: bytes.count)
        }
        guard (0...bytes.count).contains(get.offset), (0...Limits.pieceBytesMax).contains(get.length) else {
            throw AccrueError(
                .invalidInput, while: operation, "\(get.length) bytes at \(get.offset) of \(bytes.count)", hint: "ask for at most \(Limits.pieceBytesMax) bytes inside the blob")
        }
        let start = bytes.startIndex + get.offset
        return try .reply(message.id, encoding: RangeReply(totalBytes: bytes.count), payload: [bytes[start..<min(bytes.endIndex, start + get.length)]])
    }
}
