public import AccrueCore
public import AccrueWire
public import Foundation

// What the coordinator can be asked and told. Each call is one request; all throw `unavailable` when it does not answer, and what it refuses.
extension ClusterConnection {
    private struct Nothing: Codable, Sendable {}

    func ask<Answer: Decodable & Sendable>(
        _ verb: Verb, _ header: some Encodable, as _: Answer.Type = Answer.self, timeoutMs: Int? = nil
    ) async throws(AccrueError) -> Answer {
        try await control.ask(verb, header, timeoutMs: timeoutMs ?? patience.askMs)
    }

    public func status(timeoutMs: Int? = nil) async throws(AccrueError) -> ClusterStatus { try await ask(.status, Nothing(), timeoutMs: timeoutMs) }

    /// Makes a pipeline, or says again what it is.
    /// - Throws: `conflict` when it exists and is declared otherwise; `invalidInput` for settings that its method refuses.
    public func apply(_ declaration: PipelineDeclaration) async throws(AccrueError) -> Applied {
        try await ask(.pipelineApply, Apply(declaration: declaration), timeoutMs: patience.applyMs)
    }

    public func pipelines() async throws(AccrueError) -> [PipelineRecord] { try await ask(.pipelineList, Nothing(), as: PipelineListing.self).pipelines }

    /// - Throws: `notFound` when there is no such pipeline, here and below.
    public func pipeline(_ name: String) async throws(AccrueError) -> PipelineRecord { try await ask(.pipelineShow, PipelineName(pipeline: name)) }

    /// Deletes a pipeline, its log and its versions.
    public func delete(_ name: String) async throws(AccrueError) { _ = try await ask(.pipelineDelete, PipelineName(pipeline: name), as: Nothing.self) }

    /// Lets a paused pipeline go on.
    public func resume(_ name: String) async throws(AccrueError) { _ = try await ask(.pipelineResume, PipelineName(pipeline: name), as: Nothing.self) }

    /// Ends the open round, if it has chunks.
    /// - Parameter isPatient: whether to wait for a coordinator that is being started anew, as pushes do.
    public func flush(_ name: String, isPatient: Bool = false) async throws(AccrueError) -> Flushed {
        try await ask(.flush, PipelineName(pipeline: name), timeoutMs: isPatient ? patience.absenceMs : nil)
    }

    /// One page of the chunks of a pipeline's log.
    public func chunks(_ query: ChunksQuery) async throws(AccrueError) -> ChunkListing { try await ask(.chunksList, query) }

    /// The chunks of a pipeline's log, in order, page by page.
    public func chunks(_ name: String, state: ChunkState? = nil, page: (ChunkListing) -> Void) async throws(AccrueError) {
        var query = ChunksQuery(pipeline: name, state: state, limit: Limits.pageItemsMax)
        while true {
            let listing = try await chunks(query)
            page(listing)
            guard listing.more, let last = listing.chunks.last else { return }
            query.after = last.position
        }
    }

    /// Appends chunks that were set aside to the log again.
    /// - Returns: their new positions, in the order asked.
    public func retry(_ positions: [Int], of name: String) async throws(AccrueError) -> [Int] {
        try await ask(.chunksRetry, ChunkPositions(pipeline: name, positions: positions), as: PositionsReply.self).positions
    }

    /// Takes waiting chunks out of learning.
    /// - Returns: the position of the log entry that says so.
    public func setAside(_ positions: [Int], of name: String, reason: String) async throws(AccrueError) -> [Int] {
        try await ask(.chunksSetAside, ChunkPositions(pipeline: name, positions: positions, reason: reason), as: PositionsReply.self).positions
    }

    /// One page of the versions of a posterior.
    public func versions(_ query: PosteriorsQuery) async throws(AccrueError) -> PosteriorListing { try await ask(.posteriorList, query) }

    /// The versions of a posterior, oldest first, page by page; without the sums of their scores.
    public func versions(of name: String, page: (PosteriorListing) -> Void) async throws(AccrueError) {
        var query = PosteriorsQuery(pipeline: name)
        while true {
            let listing = try await versions(query)
            page(listing)
            guard listing.more, let last = listing.versions.last else { return }
            query.after = last.version
        }
    }

    /// - Parameter version: nil: the newest.
    public func version(_ version: Int?, of name: String) async throws(AccrueError) -> PosteriorRecord {
        try await ask(.posteriorShow, PosteriorQuery(pipeline: name, at: version))
    }

    /// The bytes of a version's state (safetensors).
    /// - Throws: `corrupt` when what came does not have the state's hash.
    public func state(of version: PosteriorRecord) async throws(AccrueError) -> Data {
        try await requester(to: endpoints.bulk, traffic: .bulk).getBlob(version.hash, timeoutMs: patience.absenceMs)
    }

    /// Makes a network or posterior (safetensors bytes) the next version, once the chunks before it are learned.
    /// - Parameter key: the same bytes under another key are meant again.
    /// - Returns: where the log says so; `outcome(ofPosition:)` waits for the version.
    /// - Throws: `invalidInput` for what does not fit the pipeline's model, naming the tensor.
    public func importPosterior(_ bytes: Data, into name: String, key: String? = nil) async throws(AccrueError) -> Imported {
        let hash = try await requester(to: endpoints.bulk, traffic: .bulk).putBlob(bytes, kind: .import, timeoutMs: patience.absenceMs)
        return try await ask(.posteriorImport, PosteriorImport(pipeline: name, hash: hash, key: key), timeoutMs: patience.applyMs)
    }

    /// A version for a file: its state, and what it is.
    /// - Throws: as `state(of:)`; `conflict` when the pipeline was made anew since the version was looked up.
    public func export(of version: PosteriorRecord) async throws(AccrueError) -> PosteriorExport {
        let pipeline = try await pipeline(version.pipeline)
        guard pipeline.incarnation == version.incarnation else {
            throw AccrueError(
                .conflict, while: "exporting version \(version.version) of pipeline '\(version.pipeline)'", "the pipeline was deleted and made anew meanwhile", hint: "ask again")
        }
        return try PosteriorExport(state: try await state(of: version), pipeline: version.pipeline, version: version.version, method: pipeline.declaration.method)
    }
}
