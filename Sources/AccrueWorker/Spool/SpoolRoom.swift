public import AccrueCore
public import Foundation
import Synchronization

/// Where a chunk's bytes were laid down before its identity was known: the disk writes them while they are hashed.
///
/// Without its head, which `Spool.append` writes, a payload is no record: after a crash it is stepped over or, at the end of the last segment, cut off.
public final class SpoolRoom: Sendable {
    struct Place: Sendable {
        var segment: SpoolSegment
        /// Where the head goes, and how many bytes it has.
        var start: Int
        var headBytes: Int
        var stop: Int
    }

    /// Set and taken on the spool's thread; nil when there was no room.
    private let place = Mutex<Place?>(nil)
    /// Chunks of whose drop a record lies behind the place, or will: a record made there of one of them would be read before it.
    private let dropped = Mutex<Set<SpoolKey>>([])

    func set(_ place: Place) { self.place.withLock { $0 = place } }

    func note(dropped key: SpoolKey) { dropped.withLock { _ = $0.insert(key) } }

    /// Whether a record of a chunk may be made here.
    func isFor(_ key: SpoolKey) -> Bool { dropped.withLock { !$0.contains(key) } }

    func take() -> Place? {
        place.withLock { place in
            defer { place = nil }
            return place
        }
    }
}

extension Spool {
    /// More bytes are not laid down: a payload without a head makes the next start slow.
    static let layBytesMax = Limits.frameBytesMax

    /// Begins to write a chunk's bytes. `append` must follow, with the room.
    /// - Parameter chunk: all but its identity counts.
    public func lay(_ chunk: LogEntry.Chunk, incarnation: String, bytes: Data) -> SpoolRoom? {
        guard bytes.count <= Self.layBytesMax else { return nil }
        let room = SpoolRoom()
        shared.withLock { shared in
            shared.rooms.append(room)
            for drop in shared.waiting where drop.completion == nil { room.note(dropped: drop.record.key) }
        }
        // As long as the real one: hashes and checksums have as many digits, whatever they are.
        let record = SpoolRecord(incarnation: incarnation, chunk: chunk, checksum: .xxh64(0))
        return prepare { [self] in if let place = lay(record, bytes) { room.set(place) } } ? room : nil
    }

    private func lay(_ record: SpoolRecord, _ payload: Data) -> SpoolRoom.Place? {
        do throws(AccrueError) {
            guard let segment = try currentSegment() else { return nil }
            let headBytes = try record.head(payloadBytes: payload.count, salt: segment.name.salt).count
            guard let start = try segment.append([Data(count: headBytes), payload, SpoolRecord.padding(after: payload.count)], ahead: 0) else { return nil }
            shared.withLock { $0.live[segment.number, default: 0] += 1 }
            segment.beginSynchronising(from: start)
            return SpoolRoom.Place(segment: segment, start: start, headBytes: headBytes, stop: segment.end)
        } catch {
            end(error)
            return nil
        }
    }

    /// Gives back what was laid down for a chunk that is not to be written.
    func giveBack(_ place: SpoolRoom.Place) throws(AccrueError) {
        if place.segment.end == place.stop { try place.segment.truncate(to: place.start) }
        shared.withLock { Self.release(place.segment.number, &$0) }?.delete()
    }
}
