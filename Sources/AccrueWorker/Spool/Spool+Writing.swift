import AccrueCore
import Foundation
import Glibc

// Writing, on the spool's thread.
extension Spool {
    private struct Written {
        var append: Append
        var segment: SpoolSegment
        var offset: Int
    }
    private enum Placed {
        case written(Written)
        /// The disk has no room; nothing of the record is left on it.
        case full(AccrueError)
    }

    /// Writes and makes durable what waits.
    /// - Returns: false when the spool has ended.
    func write() -> Bool {
        let (batch, isStopped, isBroken) = prepared()
        guard !isBroken else {
            for append in batch { append.completion?(.failure(Self.stopped)) }
            return false
        }
        guard !batch.isEmpty else { return !isStopped }
        var written: [Written] = []
        var outcomes: [(Completion?, Result<Stored, AccrueError>)] = []
        var keys: Set<SpoolKey> = []
        do throws(AccrueError) {
            for append in batch {
                let key = append.record.key
                if append.completion == nil {
                    // No segment is begun for it, and a disk may have no room: then the coordinator says again that the bytes may go.
                    if let segment = shared.withLock({ shared in shared.writing.flatMap { shared.segments[$0] } }) { _ = try place(append, in: segment) }
                    continue
                }
                guard !keys.contains(key), !holds(key) else {
                    if let place = append.room?.take() { try giveBack(place) }
                    outcomes.append((append.completion, .success(.present)))
                    continue
                }
                if let laid = append.room?.take() {
                    written.append(try complete(append, laid))
                    keys.insert(key)
                    outcomes.append((append.completion, .success(.written)))
                    continue
                }
                guard let segment = try currentSegment() else {
                    outcomes.append((append.completion, .failure(full(append, "no file can be made there: \(String(cString: strerror(ENOSPC)))"))))
                    continue
                }
                switch try place(append, in: segment) {
                case .written(let here):
                    written.append(here)
                    keys.insert(key)
                    outcomes.append((append.completion, .success(.written)))
                case .full(let error): outcomes.append((append.completion, .failure(error)))
                }
            }
            // One, as a rule: who was laid down in the segment before is written there.
            for segment in Dictionary(written.map { ($0.segment.number, $0.segment) }, uniquingKeysWith: { first, _ in first }).values {
                try segment.synchronise(synchronise)
            }
        } catch {
            end(error)
            for append in batch { append.completion?(.failure(Self.stopped)) }
            return false
        }
        let settled = shared.withLock { shared in
            for write in written { Self.enter(write.append.record, write.segment, write.offset, write.append.payload.count, &shared) }
            return shared.settled
        }
        for (completion, outcome) in outcomes { completion?(outcome) }
        settled?()
        return true
    }

    /// What waits, taken when nothing is left to be done before it is written: a preparation may ask for another, as for laying down what it appends.
    private func prepared() -> (batch: [Append], isStopped: Bool, isBroken: Bool) {
        while true {
            let (preparations, taken) = shared.withLock { shared -> ([@Sendable () -> Void], (batch: [Append], isStopped: Bool, isBroken: Bool)?) in
                guard shared.preparations.isEmpty else {
                    defer { shared.preparations = [] }
                    return (shared.preparations, nil)
                }
                defer { shared.waiting = [] }
                return ([], (shared.waiting, shared.isStopped, shared.isBroken))
            }
            if let taken { return taken }
            for prepare in preparations { prepare() }
        }
    }

    /// Durability is lost: nothing is answered any more.
    func end(_ error: AccrueError) {
        shared.withLock { shared in
            shared.isStopped = true
            shared.isBroken = true
        }
        fatal(error)
    }

    /// Writes the head of a record whose payload is laid down.
    private func complete(_ append: Append, _ place: SpoolRoom.Place) throws(AccrueError) -> Written {
        let head = try append.record.head(payloadBytes: append.payload.count, salt: place.segment.name.salt)
        precondition(head.count == place.headBytes, "a record's head has \(head.count) bytes; \(place.headBytes) were left for it")
        guard try place.segment.write(head: head, at: place.start) else { throw SpoolSegment.error("writing \(head.count) bytes to \(place.segment.path)") }
        return Written(append: append, segment: place.segment, offset: place.start + head.count)
    }

    /// Writes one record behind the others.
    /// - Throws: `unavailable` when the disk fails.
    private func place(_ append: Append, in segment: SpoolSegment) throws(AccrueError) -> Placed {
        let head = try append.record.head(payloadBytes: append.payload.count, salt: segment.name.salt)
        let padding = Data(count: SpoolRecord.aligned(append.payload.count) - append.payload.count)
        // For a large record writing zeros first would take as long as its growing costs.
        let isSmall = append.payload.count <= aheadBytes / 4
        let ahead = isSmall ? max(0, min(aheadBytes, segmentBytesMax - segment.end)) : 0
        guard let start = try segment.append([head, append.payload, padding], ahead: ahead) else {
            return .full(full(append, String(cString: strerror(ENOSPC))))
        }
        // Counted before it is entered, or a segment begun for the next record of the batch would take this one for empty and delete it.
        if append.completion != nil { shared.withLock { $0.live[segment.number, default: 0] += 1 } }
        return .written(Written(append: append, segment: segment, offset: start + head.count))
    }

    private func full(_ append: Append, _ problem: String) -> AccrueError {
        AccrueError(
            .unavailable, while: "storing chunk \(append.record.chunk.identity.short) in \(folder)", problem,
            hint: "make room on the worker's disk, or push to another worker", retryAfterMs: 5_000)
    }

    /// The segment to write to, a new one when the last is full; nil when the disk has no room for one.
    func currentSegment() throws(AccrueError) -> SpoolSegment? {
        let (current, next) = shared.withLock { shared in (shared.writing.flatMap { shared.segments[$0] }, (shared.segments.keys.max() ?? 0) + 1) }
        if let current {
            if current.end < segmentBytesMax { return current }
            try current.truncate(to: current.end)
            try current.synchronise(synchronise)
        }
        guard let segment = try SpoolSegment(making: next, in: folder) else { return nil }
        try synchroniseFolder()
        let empty = shared.withLock { shared -> SpoolSegment? in
            let old = shared.writing
            shared.writing = next
            shared.segments[next] = segment
            shared.live[next] = 0
            guard let old, shared.live[old] == 0 else { return nil }
            shared.live[old] = nil
            return shared.segments.removeValue(forKey: old)
        }
        empty?.delete()
        return segment
    }

    /// A file's name must be as durable as its content.
    func synchroniseFolder() throws(AccrueError) {
        let directory = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        defer { close(directory) }
        guard directory >= 0, fsync(directory) == 0 else { throw SpoolSegment.error("making \(folder) durable") }
    }
}
