import AccrueCore
import AccrueStore
import AccrueWire

// What changes truth: each pipeline's changes one after the other.
extension Coordinator {
    mutating func announce(_ announce: Announce, _ asker: Asker, at now: Moment) throws(AccrueError) {
        let operation = "appending chunks to pipeline '\(announce.pipeline)'"
        let name: String
        do { name = try session(announce.worker, asker) } catch {
            // Not `notFound`: a worker gives up the bytes of what is never to be in the log, and this chunk may be in it already.
            throw AccrueError(.unavailable, while: operation, error.problem, hint: error.hint, retryAfterMs: 500)
        }
        guard let pipeline = pipelines[announce.incarnation], pipeline.name == announce.pipeline else {
            throw AccrueError(.notFound, while: operation, "there is no such pipeline", hint: "see 'accrue pipeline list', or apply it first")
        }
        guard (1...Limits.pageItemsMax).contains(announce.items.count) else {
            throw AccrueError(.limitExceeded, while: operation, "\(announce.items.count) chunks in one message; 1 to \(Limits.pageItemsMax) are allowed")
        }
        let number = nextNumber()
        let waiting = pipeline.log.waiting.chunks + pipeline.changes.chunksUnderWay
        let room = max(0, (pipeline.declaration.limits?.waitingChunks ?? Limits.waitingChunksMax) - waiting)
        var results: [AnnounceReply.Result?] = []
        var taken: [(announced: AnnouncedChunk, origin: ChangeQueue.Origin)] = []
        for (index, item) in announce.items.enumerated() {
            let holders = holders(of: item, with: name)
            do throws(AccrueError) {
                try check(holders, pipeline.declaration, isRoom: taken.count < room, while: operation)
                for worker in holders { sessions[worker]?.told?.insert(.init(incarnation: announce.incarnation, identity: item.chunk.identity)) }
                taken.append((AnnouncedChunk(item.chunk, workers: holders), .announcement(number: number, item: index)))
                results.append(nil)
            } catch { results.append(.refused(error)) }
        }
        announcements[number] = Gathering(asker: asker, parts: results)
        if !taken.isEmpty { pipelines[announce.incarnation]?.changes.add(.append(taken)) }
        answerAnnouncement(number)
        startChange(announce.incarnation, at: now)
    }

    /// The workers that hold an announced chunk for certain. A process that was started anew since may have been told to drop what it held.
    private func holders(of item: Announce.Item, with worker: String) -> [String] {
        let copies = (item.replicas ?? []).filter { sessions[$0.worker]?.isAlive == true && sessions[$0.worker]?.boot == $0.boot }
        return Set([worker] + copies.map(\.worker)).sorted()
    }

    private func check(_ holders: [String], _ declaration: PipelineDeclaration, isRoom: Bool, while operation: String) throws(AccrueError) {
        guard isRoom else {
            throw AccrueError(
                .unavailable, while: operation, "\(declaration.limits?.waitingChunks ?? Limits.waitingChunksMax) chunks wait to be learned, as many as may",
                hint: "wait, or find out why it does not learn with 'accrue status'", retryAfterMs: 1_000)
        }
        let replicas = declaration.replicas ?? 1
        guard holders.count >= replicas else {
            throw AccrueError(
                .unavailable, while: operation, "it is with \(holders.count) workers that are alive; the pipeline wants each chunk with \(replicas)",
                hint: "send it again", retryAfterMs: 1_000)
        }
    }

    private mutating func announced(_ result: AnnounceReply.Result, number: Int, item: Int) {
        announcements[number]?.set(result, at: item)
        answerAnnouncement(number)
    }

    private mutating func answerAnnouncement(_ number: Int) {
        guard let announcement = announcements[number], let results = announcement.whole else { return }
        announcements[number] = nil
        reply(announcement.asker, AnnounceReply(results: results))
    }

    /// Queues a change that somebody asked for.
    mutating func change(_ name: String, _ change: ChangeQueue.Change) throws(AccrueError) {
        pipelines[try incarnation(name)]?.changes.add(change)
    }

    /// Gives the next change to the store, if none is with it.
    mutating func startChange(_ incarnation: String, at now: Moment) {
        while pipelines[incarnation]?.changes.current == nil, let change = pipelines[incarnation]?.changes.takeNext() {
            guard let decided = decide(change, incarnation, at: now) else { continue }
            let number = store(decided.store, for: .pipeline(incarnation: incarnation))
            pipelines[incarnation]?.changes.current = (number, decided.change)
        }
    }

    /// What the store is to do for a change, now that its turn has come; nil when nothing is.
    private mutating func decide(_ change: ChangeQueue.Change, _ incarnation: String, at now: Moment) -> (change: ChangeQueue.Change, store: StoreChange)? {
        guard let pipeline = pipelines[incarnation] else { return nil }
        switch change {
        case .append(let chunks): return (change, .append(chunks.map(\.announced), incarnation: incarnation))
        case .cut(let asker):
            guard pipeline.log.openChunks > 0 else {
                if let asker { reply(asker, Flushed(position: nil)) }
                return nil
            }
            return (change, .appendEntry(.cut, incarnation: incarnation))
        case .setAside(let positions, let reason, let asker):
            let waiting = positions.filter { pipeline.log.standings[$0] == .waiting && !pipeline.log.changesSchema(at: $0) }
            if let asker, waiting.count < positions.count {
                let wrong = positions.filter { !waiting.contains($0) }.map(String.init).joined(separator: ", ")
                refuse(asker, AccrueError(
                    .conflict, while: "setting chunks of pipeline '\(pipeline.name)' aside", "no chunk waits at \(wrong)",
                    hint: "only chunks that are not absorbed can be set aside; see 'accrue chunks list'"))
                return nil
            }
            guard !waiting.isEmpty else { return nil }
            return (.setAside(positions: waiting, reason: reason, asker), .appendEntry(.setAside(positions: waiting, reason: reason), incarnation: incarnation))
        case .propose(let number): return decided(number, pipeline).map { (change, $0) }
        case .retry(let positions, _, let asker):
            guard let position = positions.first else { return nil }
            guard case .setAside = pipeline.log.standings[position] else {
                refuse(asker, AccrueError(
                    .conflict, while: "retrying the chunk at position \(position) of pipeline '\(pipeline.name)'", "no chunk is set aside there",
                    hint: "see 'accrue chunks list \(pipeline.name) --state setAside'"))
                return nil
            }
            return (change, .retry(position: position, incarnation: incarnation))
        case .publish(let version):
            // A chunk of the round may have been set aside since.
            guard pipeline.round?.step == .made(version.state), pipeline.round?.version == version.version else { return nil }
            return (change, .publish(version, incarnation: incarnation))
        case .pause(let reason, let asker):
            guard reason != pipeline.paused else {
                if let asker { reply(asker, record(pipeline)) }
                return nil
            }
            return (change, .setPaused(reason, incarnation: incarnation))
        case .delete: return (change, .delete(incarnation: incarnation))
        }
    }

    mutating func stored(_ number: Int, _ outcome: StoreOutcome, at now: Moment) {
        switch owners.removeValue(forKey: number) {
        case .creation(let name): created(name, outcome, at: now)
        case .pipeline(let incarnation):
            guard let current = pipelines[incarnation]?.changes.current, current.number == number else { return }
            pipelines[incarnation]?.changes.current = nil
            applied(current.change, outcome, incarnation, at: now)
            startChange(incarnation, at: now)
        case nil: break
        }
    }

    private mutating func applied(_ change: ChangeQueue.Change, _ outcome: StoreOutcome, _ incarnation: String, at now: Moment) {
        guard let name = pipelines[incarnation]?.name else { return }
        switch (change, outcome) {
        case (.append(let chunks), .appended(let results)):
            for (chunk, result) in zip(chunks, results) { appended(chunk.announced, chunk.origin, result, incarnation, at: now) }
        case (.cut(let asker), .position(let position)):
            pipelines[incarnation]?.append(.cut, at: now)
            if let asker { reply(asker, Flushed(position: position)) }
        case (.setAside(let positions, let reason, let asker), .position):
            pipelines[incarnation]?.append(.setAside(positions: positions, reason: reason), at: now)
            if let round = pipelines[incarnation]?.round, !Set(round.stretch.positions).isDisjoint(with: positions) {
                cancelLeases(incarnation)
                pipelines[incarnation]?.restartRound()
            }
            let list = positions.map(String.init).joined(separator: ", ")
            note("setAside", name, "what is at \(list) is set aside: \(reason)", at: now)
            answerAwaiting(incarnation)
            if let asker { reply(asker, PositionsReply(positions: positions)) }
        case (.propose(let number), .position(let position)): proposed(number, incarnation, at: position, now)
        case (.retry(let positions, let made, let asker), .position(let position)):
            // Asked a second time, it is where it was put the first time.
            if let log = pipelines[incarnation]?.log, position == log.lastPosition + 1, let chunk = positions.first.flatMap({ log.chunk(at: $0) }) {
                pipelines[incarnation]?.append(.chunk(chunk), at: now)
            }
            let rest = Array(positions.dropFirst())
            if rest.isEmpty {
                reply(asker, PositionsReply(positions: made + [position]))
            } else {
                pipelines[incarnation]?.changes.putFirst(.retry(positions: rest, made: made + [position], asker))
            }
        case (.publish(var version), .done(let bytes)):
            version.bytes = bytes
            published(version, incarnation, at: now)
        case (.pause(let reason, let asker), .done):
            pipelines[incarnation]?.paused = reason
            cancelLeases(incarnation)
            pipelines[incarnation]?.restartRound()
            note(reason == nil ? "resumed" : "paused", name, reason ?? "learning goes on", at: now)
            hint(.pipeline, name)
            if let asker, let pipeline = pipelines[incarnation] { reply(asker, record(pipeline)) }
        case (.delete(let asker), .done): deleted(incarnation, asker, at: now)
        case (.publish(let version), .refused(let error)):
            // Learning it again would come to the same; a person must look.
            pipelines[incarnation]?.changes.add(.pause("the store refuses version \(version.version): \(error.problem)", nil))
        case (_, .refused(let error)): refused(change, error)
        default: break
        }
    }

    private mutating func appended(_ announced: AnnouncedChunk, _ origin: ChangeQueue.Origin, _ result: AppendResult, _ incarnation: String, at now: Moment) {
        let chunk = announced.chunk
        if case .appended = result { pipelines[incarnation]?.append(.chunk(chunk), at: now) }
        let need = pipelines[incarnation]?.need(of: chunk.identity)
        if case .conflict = result {} else if need != .drop { pipelines[incarnation]?.holders[chunk.identity, default: []].formUnion(announced.workers) }
        switch (origin, result) {
        case (.announcement(let number, let item), .appended(let position)): self.announced(.taken(at: position, duplicate: false), number: number, item: item)
        case (.announcement(let number, let item), .duplicate(let position)):
            self.announced(.taken(at: position, duplicate: true), number: number, item: item)
            if need == .drop { for worker in announced.workers { tell(worker, .drop, Drop(incarnation: incarnation, identity: chunk.identity)) } }
        case (.announcement(let number, let item), .conflict(let position)):
            let error = AccrueError(
                .conflict, while: "appending chunk \(chunk.identity.short)", "the key '\(chunk.key ?? "")' names other content, at position \(position)",
                hint: "send the same content under the same key, or choose another key")
            self.announced(.refused(error), number: number, item: item)
        case (.inventory(let page, let item), .appended): verdict(.appended, page: page, item: item)
        case (.inventory(let page, let item), .duplicate): verdict(need ?? .drop, page: page, item: item)
        case (.inventory(let page, let item), .conflict): verdict(.drop, page: page, item: item)
        }
    }

    mutating func published(_ version: VersionRecord, _ incarnation: String, at now: Moment) {
        guard let name = pipelines[incarnation]?.name else { return }
        let remarks = pipelines[incarnation]?.round?.remarks ?? []
        // In place: a copy would be one of all the log.
        let dropped = pipelines[incarnation]?.published(version) ?? []
        cancelLeases(incarnation)
        for (identity, workers) in dropped {
            for worker in workers.sorted() { tell(worker, .drop, Drop(incarnation: incarnation, identity: identity)) }
        }
        let text =
            switch pipelines[incarnation]?.log.change(at: version.through) {
            case .adopt(let imported): "is the import \(imported.file.short)"
            case .adapt: "has the appended classes"
            case nil: "absorbs \(version.absorbedChunks) chunks, \(version.absorbedRows) rows"
            }
        note("version", name, "version \(version.version) \(text)", at: now)
        for remark in remarks { note(remark.kind.rawValue, name, "version \(version.version): \(remark.text)", at: now) }
        hint(.version, name, version: version.version)
        answerAwaiting(incarnation)
    }

    private mutating func deleted(_ incarnation: String, _ asker: Asker, at now: Moment) {
        cancelLeases(incarnation)
        guard let pipeline = pipelines.removeValue(forKey: incarnation) else { return }
        names[pipeline.name] = nil
        let gone = AccrueError(.notFound, while: "changing pipeline '\(pipeline.name)'", "it was deleted just now")
        for change in pipeline.changes.waiting { refused(change, gone) }
        endProposals(incarnation, gone)
        for waiter in waiters(where: { $0.incarnation == incarnation }) {
            awaiting[waiter] = nil
            refuse(waiter, gone)
        }
        for (identity, workers) in pipeline.holders.sorted(by: { $0.key < $1.key }) {
            for worker in workers.sorted() { tell(worker, .drop, Drop(incarnation: incarnation, identity: identity)) }
        }
        note("deleted", pipeline.name, "the pipeline is deleted; its log stays in the store", at: now)
        hint(.pipeline, pipeline.name)
        acknowledge(asker)
    }

    /// A change that is not made: whoever waits for it is told.
    private mutating func refused(_ change: ChangeQueue.Change, _ error: AccrueError) {
        switch change {
        case .append(let chunks):
            for chunk in chunks {
                switch chunk.origin {
                case .announcement(let number, let item): announced(.refused(error), number: number, item: item)
                // Only what can never be learned may go.
                case .inventory(let page, let item): verdict(error.code == .notFound ? .drop : .keep, page: page, item: item)
                }
            }
        case .cut(let asker), .setAside(_, _, let asker), .pause(_, let asker): if let asker { refuse(asker, error) }
        case .retry(_, _, let asker), .delete(let asker): refuse(asker, error)
        case .propose(let number): end(number, error)
        case .publish: break
        }
    }
}
