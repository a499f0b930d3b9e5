import AccrueCore
import AccrueWire
import Foundation
import Synchronization

/// A version that can be asked.
struct ServedVersion: Sendable {
    var record: PosteriorRecord
    var seed: UInt64
    var state: any LoadedState

    /// Decodes a state, and makes before it is served what answers need, so that the first who ask do not wait for it.
    /// - Parameter earlier: the version whose place it takes: what was asked of that is made ready of this.
    /// - Throws: what the method throws, such as `corrupt`.
    static func ready(
        _ record: PosteriorRecord, seed: UInt64, method: any OpaqueMethod, state: Data, following earlier: ServedVersion? = nil
    ) throws(AccrueError) -> ServedVersion {
        let version = ServedVersion(record: record, seed: seed, state: try method.load(state))
        try version.state.prepare(for: version.key(querySeed: nil), following: earlier?.state)
        return version
    }

    /// The same question to the same version gets the same answer, also after the querier was started anew.
    func key(querySeed: Int?) -> RandomKey { RandomKey(seed: seed).folding("query").folding(record.version).folding(querySeed ?? 0) }
}

/// The version of each pipeline that is served. Who asks takes a reference to it; a new version takes its place by the swap of one reference.
final class NewestVersions: Sendable {
    private let served = Mutex<[String: ServedVersion]>([:])

    subscript(pipeline: String) -> ServedVersion? { served.withLock { $0[pipeline] } }

    /// Serves a version from now on, unless a later one of the same incarnation is served already.
    /// - Returns: what is not served now. Letting go of its weights takes longer than the swap, and is for the caller to do where nobody waits.
    func swap(_ version: ServedVersion) -> ServedVersion? {
        served.withLock { served in
            let name = version.record.pipeline
            if let now = served[name], now.record.incarnation == version.record.incarnation, now.record.version > version.record.version { return version }
            return served.updateValue(version, forKey: name)
        }
    }

    /// Lets go of pipelines that are not these any more.
    /// - Parameter incarnations: by name.
    func keep(only incarnations: [String: String]) {
        let gone = served.withLock { served in
            let gone = served.filter { incarnations[$0.key] != $0.value.record.incarnation }
            for name in gone.keys { served[name] = nil }
            return gone
        }
        // Let go of here, outside the lock.
        withExtendedLifetime(gone) {}
    }
}
