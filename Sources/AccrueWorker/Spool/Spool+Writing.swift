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

    /// What became of a group, and what of it is still to be written.
    private struct Group {
        var written: [Written] = []
        var outcomes: [(Completion?, Result<Stored, AccrueError>)] = []
        /// Of chunks that are written.
        var keys: Set<SpoolKey> = []
        /// Small records that go by one write, and the keys of their chunks; records of drops are among them, for the order in a file counts.
        var small: [Append] = []
        var smallKeys: Set<SpoolKey> = []

        /// - Parameter offset: of the payload.
        mutating func add(_ append: Append, _ segment: SpoolSegment, _ offset: Int) {
            guard let completion = append.completion else { return }
            written.append(Written(append: append, segment: segment, offset: offset))
            keys.insert(append.record.key)
            outcomes.append((completion, .success(.written)))
        }

        mutating func refuse(_ append: Append, _ error: AccrueError) {
            if let completion = append.completion { outcomes.append((completion, .failure(error))) }
        }
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
        var group = Group()
        do throws(AccrueError) {
            for append in batch { try take(append, &group) }
            try placeSmall(&group)
            // One, as a rule: who was laid down in the segment before is written there.
            for segment in Dictionary(group.written.map { ($0.segment.number, $0.segment) }, uniquingKeysWith: { first, _ in first }).values {
                try segment.synchronise(synchronise)
            }
        } catch {
            end(error)
            for append in batch { append.completion?(.failure(Self.stopped)) }
            return false
        }
        let settled = shared.withLock { shared in
            for write in group.written { Self.enter(write.append.record, write.segment, write.offset, write.append.payload.count, &shared) }
            return shared.settled
        }
        for (completion, outcome) in group.outcomes { completion?(outcome) }
        settled?()
        return true
    }

    /// Writes one of a group, or puts it among the small ones that are written together.
    private func take(_ append: Append, _ group: inout Group) throws(AccrueError) {
        if append.completion != nil {
            let key = append.record.key
            if let room = append.room { shared.withLock { $0.rooms.removeAll { $0 === room } } }
            // Whether it is there is known when what waits is written, or has no room.
            if group.smallKeys.contains(key) { try placeSmall(&group) }
            guard !group.keys.contains(key), !holds(key) else {
                if let place = append.room?.take() { try giveBack(place) }
                return group.outcomes.append((append.completion, .success(.present)))
            }
            if let room = append.room, let laid = room.take() {
                if room.isFor(key) { return group.add(append, laid.segment, try complete(append, laid)) }
                try giveBack(laid)
            }
            guard append.payload.count <= smallBytesMax else {
                try placeSmall(&group)
                return try placeLarge(append, &group)
            }
            group.smallKeys.insert(key)
        }
        group.small.append(append)
    }

    /// For a large record writing zeros first would take as long as its growing costs.
    private var smallBytesMax: Int { aheadBytes / 4 }

    /// Writes the small records that wait behind the others: all by one write, unless a segment ends or the disk has no room for all.
    /// - Throws: `unavailable` when the disk fails.
    private func placeSmall(_ group: inout Group) throws(AccrueError) {
        var left = group.small[...]
        group.small = []
        group.smallKeys = []
        var isOneByOne = false
        while let first = left.first {
            // None is begun for records of drops, and a disk may have no room: then the coordinator says again that the bytes may go.
            let segment = left.contains { $0.completion != nil } ? try currentSegment() : shared.withLock { shared in shared.writing.flatMap { shared.segments[$0] } }
            guard let segment else {
                for append in left { group.refuse(append, full(append, Self.noFile)) }
                return
            }
            var bytes = Data(), payloads: [Int] = []
            for append in left where payloads.isEmpty || !isOneByOne && segment.end + bytes.count < segmentBytesMax {
                bytes.append(try append.record.head(payloadBytes: append.payload.count, salt: segment.name.salt))
                payloads.append(bytes.count)
                bytes.append(append.payload)
                bytes.append(SpoolRecord.padding(after: bytes.count))
            }
            guard let start = try segment.append([bytes], ahead: max(0, min(aheadBytes, segmentBytesMax - segment.end - bytes.count))) else {
                if payloads.count == 1 {
                    group.refuse(first, full(first, Self.noRoom))
                    left.removeFirst()
                }
                isOneByOne = true
                continue
            }
            let placed = left.prefix(payloads.count)
            left.removeFirst(payloads.count)
            // Counted before they are entered, or a segment begun for the next records would take this one for empty and delete it.
            shared.withLock { $0.live[segment.number, default: 0] += placed.count { $0.completion != nil } }
            for (append, payload) in zip(placed, payloads) { group.add(append, segment, start + payload) }
        }
    }

    /// Writes one record behind the others, without copying it.
    /// - Throws: `unavailable` when the disk fails.
    private func placeLarge(_ append: Append, _ group: inout Group) throws(AccrueError) {
        guard let segment = try currentSegment() else { return group.refuse(append, full(append, Self.noFile)) }
        let head = try append.record.head(payloadBytes: append.payload.count, salt: segment.name.salt)
        guard let start = try segment.append([head, append.payload, SpoolRecord.padding(after: append.payload.count)], ahead: 0) else { return group.refuse(append, full(append, Self.noRoom)) }
        shared.withLock { $0.live[segment.number, default: 0] += 1 }
        group.add(append, segment, start + head.count)
    }

    private static let noRoom = String(cString: strerror(ENOSPC))
    private static let noFile = "no file can be made there: \(noRoom)"

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
    /// - Returns: where the payload begins.
    private func complete(_ append: Append, _ place: SpoolRoom.Place) throws(AccrueError) -> Int {
        let head = try append.record.head(payloadBytes: append.payload.count, salt: place.segment.name.salt)
        precondition(head.count == place.headBytes, "a record's head has \(head.count) bytes; \(place.headBytes) were left for it")
        guard try place.segment.write(head: head, at: place.start) else { throw SpoolSegment.error("writing \(head.count) bytes to \(place.segment.path)") }
        return place.start + head.count
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
