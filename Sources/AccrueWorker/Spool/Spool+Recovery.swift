import AccrueCore
import Foundation

// Reading at the start.
extension Spool {
    func recover() throws(AccrueError) {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        let found = names.compactMap(SpoolSegment.Name.init(file:)).sorted()
        for (name, next) in zip(found, found.dropFirst()) where name.number == next.number {
            throw AccrueError(
                .corrupt, while: "opening spool \(folder)", "\(name.file) and \(next.file) have one number", hint: "give the later one the next free number")
        }
        for name in found {
            let segment = try SpoolSegment(opening: name, in: folder)
            let number = name.number, isLast = name == found.last
            let scan = try segment.scan()
            for damage in scan.damaged {
                let range = "\(damage.range.lowerBound) to \(damage.range.upperBound)"
                report("spool: bytes \(range) of \(segment.path) hold \(damage.problem); what was there is left out")
            }
            if scan.isZeroBehind {
                segment.goOn(at: scan.end)
            } else {
                if isLast {
                    report("spool: the last \(scan.byteCount - scan.end) bytes of \(segment.path) were never finished; they are cut off")
                    try segment.truncate(to: scan.end)
                } else {
                    report("spool: the last \(scan.byteCount - scan.end) bytes of \(segment.path) are damaged; what was there is left out")
                    segment.goOn(at: SpoolRecord.aligned(scan.byteCount))
                }
            }
            // The process before may have ended between writing and making durable; what is found is held, so it must be both.
            try segment.synchronise(synchronise)
            if isLast { try synchroniseFolder() }
            shared.withLock { shared in
                shared.segments[number] = segment
                shared.live[number] = 0
                for found in scan.records {
                    if found.record.isDrop != true { shared.live[number, default: 0] += 1 }
                    Self.enter(found.record, segment, found.offset, found.payloadBytes, &shared)
                }
            }
        }
        let empty = shared.withLock { shared in
            let numbers = shared.live.filter { $0.value <= 0 }.map(\.key)
            let empty = numbers.compactMap { number in
                shared.live[number] = nil
                return shared.segments.removeValue(forKey: number)
            }
            // The last one is gone on with, so that what is dropped from now on can be noted.
            shared.writing = shared.segments.keys.max()
            return empty
        }
        for segment in empty { segment.delete() }
    }

    /// Puts a record, which its segment counts already, among the entries.
    static func enter(_ record: SpoolRecord, _ segment: SpoolSegment, _ offset: Int, _ byteCount: Int, _ shared: inout Shared) {
        // A chunk that was dropped and pushed again may stand in two places; the later one counts.
        if let old = shared.entries.removeValue(forKey: record.key) { shared.live[old.segment.number, default: 1] -= 1 }
        if record.isDrop == true { return }
        shared.entries[record.key] = Entry(
            item: Item(incarnation: record.incarnation, chunk: record.chunk, stamp: shared.nextStamp()), segment: segment, offset: offset, byteCount: byteCount,
            checksum: record.checksum)
    }
}
