import AccrueCore
import AccrueWire
import Foundation

/// Gathers what a lease needs: blobs from the coordinator, rows from the own spool or from a worker that holds them.
final class LeaseGathering: Sendable {
    /// Blobs kept, in bytes; rows kept, in bytes.
    static let cacheBytesMax = 256 << 20
    /// For how many calls of `tidy` what no lease asks for stays in memory: to have it again costs little beside the time that has passed.
    private static let cacheTurns = 10

    private let spool: Spool
    private let peers: PeerRequesters
    private let bulk: @Sendable () throws(AccrueError) -> Requester
    private let threads: WorkThreads
    private let damaged: @Sendable (SpoolKey, AccrueError) -> Void
    private let blobs = RecentlyUsed<ContentHash, Data>(costMax: cacheBytesMax)
    private let chunks = RecentlyUsed<SpoolKey, Rows>(costMax: cacheBytesMax)

    /// - Parameters:
    ///   - threads: where bytes are decoded and checked.
    ///   - damaged: told of a chunk that the own spool does not give as it was pushed.
    init(
        spool: Spool, peers: PeerRequesters, threads: WorkThreads, damaged: @escaping @Sendable (SpoolKey, AccrueError) -> Void,
        bulk: @escaping @Sendable () throws(AccrueError) -> Requester
    ) {
        self.damaged = damaged
        self.spool = spool
        self.peers = peers
        self.threads = threads
        self.bulk = bulk
    }

    /// - Parameter progress: called after each thing that is there.
    /// - Throws: `unavailable` when something could not be had from anywhere; with `position` when it is a chunk's rows.
    func inputs(of task: LeaseTask, progress: @Sendable () -> Void) async throws(AccrueError) -> LeaseInputs {
        var inputs = LeaseInputs()
        if let work = task.work { inputs.work = try await blob(work, progress) } else if let base = task.base { inputs.base = try await blob(base, progress) }
        if task.identity.phase == .score, inputs.base == nil, let base = task.base { inputs.base = try await blob(base, progress) }
        if let imported = task.imported { inputs.imported = try await blob(imported, progress) }
        var whole: [ContentHash: Rows] = [:]
        for range in task.rows {
            let rows: Rows
            if let known = whole[range.identity] { rows = known } else {
                rows = try await chunk(range, task, progress)
                whole[range.identity] = rows
            }
            guard range.firstRow >= 0, range.rows > 0, range.firstRow + range.rows <= rows.count else {
                throw AccrueError(
                    .invalidInput, while: "gathering rows of chunk \(range.identity.short)",
                    "rows \(range.firstRow) to \(range.firstRow + range.rows) of \(rows.count)", position: range.position)
            }
            inputs.rows.append(rows.rows(range.firstRow..<range.firstRow + range.rows))
            progress()
        }
        for part in task.parts { inputs.parts.append(try await blob(part.blob, progress)) }
        return inputs
    }

    /// Puts what a lease made at the coordinator; this worker keeps it at hand.
    func put(_ bytes: Data, kind: BlobPut.Kind, progress: () -> Void) async throws(AccrueError) -> ContentHash {
        let hash = try await bulk().putBlob(bytes, kind: kind, progress: progress)
        blobs.insert(bytes, for: hash, cost: bytes.count)
        return hash
    }

    /// Lets go of what no lease has asked for of late; called at a steady pace.
    func tidy() {
        blobs.endTurn(keeping: Self.cacheTurns)
        chunks.endTurn(keeping: Self.cacheTurns)
    }

    private func blob(_ hash: ContentHash, _ progress: @Sendable () -> Void) async throws(AccrueError) -> Data {
        progress()
        if let known = blobs[hash] { return known }
        let bytes = try await bulk().getBlob(hash, progress: progress)
        blobs.insert(bytes, for: hash, cost: bytes.count)
        return bytes
    }

    private func chunk(_ range: RowRange, _ task: LeaseTask, _ progress: @Sendable () -> Void) async throws(AccrueError) -> Rows {
        let key = SpoolKey(incarnation: task.identity.incarnation, identity: range.identity)
        if let known = chunks[key] { return known }
        var last = AccrueError(
            .unavailable, while: "gathering rows of chunk \(range.identity.short)", "no worker is known to hold it", hint: "start the worker that took it",
            position: range.position)
        func take(_ bytes: Data) async throws(AccrueError) -> Rows {
            let rows = try await threads.run { Self.decode(bytes, range, task.declaration.schema) }.get()
            chunks.insert(rows, for: key, cost: bytes.count)
            return rows
        }
        if spool.holds(key) {
            do { return try await take(try spool.bytes(of: key)) } catch {
                last = error
                if error.code != .notFound { damaged(key, error) }
            }
        }
        for endpoint in task.locations[range.identity.hex] ?? [] {
            do {
                return try await take(try await peers.requester(to: endpoint).fetchChunk(range.identity, incarnation: key.incarnation, timeoutMs: 10_000, progress: progress))
            } catch {
                last = error
                if error.code == .unavailable { peers.forget(endpoint) }
            }
        }
        last.position = range.position
        throw last
    }

    private static func decode(_ bytes: Data, _ range: RowRange, _ schema: Schema) -> Result<Rows, AccrueError> {
        let operation = "reading chunk \(range.identity.short)"
        do throws(AccrueError) {
            let rows = try Rows(Safetensors.decode(bytes).tensors, schema: schema, while: operation)
            guard rows.identity == range.identity else {
                throw AccrueError(.corrupt, while: operation, "the bytes are those of another chunk (\(rows.identity.short))", hint: "check the disk of the worker that holds it")
            }
            return .success(rows)
        } catch { return .failure(error) }
    }
}
