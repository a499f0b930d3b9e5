import AccrueCore
import AccrueStore
import AccrueWire

// Who is there: hello, heartbeats, inventories, deaths.
extension Coordinator {
    mutating func hello(_ hello: Hello, _ asker: Asker, at now: Moment) throws(AccrueError) {
        if hello.role != .client { try join(hello, asker, at: now) }
        reply(asker, Welcome(boot: boot, endpoints: currentEndpoints))
    }

    private var currentEndpoints: Endpoints {
        let alive = sessions.values.filter(\.isAlive).sorted { $0.name < $1.name }
        return Endpoints(
            bulk: endpoints.bulk, events: endpoints.events, ingest: alive.filter { $0.role == .worker }.compactMap(\.endpoint),
            query: alive.filter { $0.role == .querier }.compactMap(\.endpoint))
    }

    private mutating func join(_ hello: Hello, _ asker: Asker, at now: Moment) throws(AccrueError) {
        let operation = "joining as \(hello.role.rawValue)"
        guard let name = hello.name, !name.isEmpty, let boot = hello.boot, let endpoint = hello.endpoint else {
            throw AccrueError(.invalidInput, while: operation, "hello lacks name, boot or endpoint", hint: "see ops/PROTOCOL.md")
        }
        try check(name, endpoint, asker, while: operation)
        let old = sessions[name]
        guard old != nil || sessions.count < Limits.workersMax else {
            throw AccrueError(.limitExceeded, while: operation, "\(sessions.count) workers and queriers have joined; at most \(Limits.workersMax) may")
        }
        var session = Session(name: name, role: hello.role, boot: boot, endpoint: endpoint, peer: asker.peer, key: asker.key, heardAt: now.monotonic)
        if let old, old.boot == boot {
            // The same process again: what it holds it still holds, and it did not die after all.
            session.lease = old.lease
            if let lost = old.lostLease { leases.forgive(lost) }
        } else if let old, let lease = old.lease {
            lost(lease, old.name, "its process ended", at: now)
        }
        sessions[name] = session
        if old?.isAlive != true || old?.boot != boot {
            note("workerJoined", nil, "\(hello.role.rawValue) '\(name)' joined at \(KeyedEndpoint.address(of: endpoint))", at: now)
        }
    }

    mutating func heartbeat(_ heartbeat: Heartbeat, _ asker: Asker, at now: Moment) throws(AccrueError) {
        let name = try session(heartbeat.worker, asker)
        sessions[name]?.heardAt = now.monotonic
        sessions[name]?.step = heartbeat.step
        if let lease = heartbeat.lease {
            if sessions[name]?.lease == lease {
                leases.moved(lease, heartbeat.step, at: now.monotonic)
            } else {
                tell(name, .cancel, Cancel(lease: lease))
            }
        }
        reply(asker, HeartbeatReply(boot: boot, pipelines: listingHash, keys: keys?.hash))
    }

    mutating func ready(_ ready: Ready, _ asker: Asker, at now: Moment) throws(AccrueError) {
        let name = try session(ready.worker, asker)
        sessions[name]?.heardAt = now.monotonic
        acknowledge(asker)
        if let lease = sessions[name]?.lease {
            // It did not get the lease, or the messages crossed; the same lease again does no harm.
            if let task = task(for: lease) { tell(name, .lease, task) } else { sessions[name]?.lease = nil }
        }
        if sessions[name]?.lease == nil { sessions[name]?.isReady = true }
    }

    /// The name of a session that is alive and speaks from where it said hello.
    func session(_ name: String, _ asker: Asker) throws(AccrueError) -> String {
        guard let session = sessions[name], session.isAlive, session.peer == asker.peer, session.key == asker.key else {
            throw AccrueError(.notFound, while: "hearing worker '\(name)'", "it is not joined to this coordinator", hint: "say hello, then send the inventory")
        }
        return name
    }

    /// One page of what a worker holds. The answer waits for what has to be appended first.
    mutating func inventory(_ inventory: Inventory, _ asker: Asker, at now: Moment) throws(AccrueError) {
        let name = try session(inventory.worker, asker)
        guard inventory.items.count <= Limits.pageItemsMax else {
            throw AccrueError(.limitExceeded, while: "reading an inventory", "\(inventory.items.count) items; at most \(Limits.pageItemsMax) a page are allowed")
        }
        sessions[name]?.heardAt = now.monotonic
        let page = nextNumber()
        var verdicts: [InventoryVerdict?] = []
        var touched: Set<String> = []
        for (index, item) in inventory.items.enumerated() {
            sessions[name]?.told?.insert(.init(incarnation: item.incarnation, identity: item.chunk.identity))
            guard let pipeline = pipelines[item.incarnation] else {
                verdicts.append(.drop)
                continue
            }
            guard let verdict = pipeline.need(of: item.chunk.identity) else {
                pipelines[item.incarnation]?.changes.add(
                    .append([(AnnouncedChunk(item.chunk, workers: [name]), .inventory(page: page, item: index))]))
                touched.insert(item.incarnation)
                verdicts.append(nil)
                continue
            }
            if verdict != .drop { pipelines[item.incarnation]?.holders[item.chunk.identity, default: []].insert(name) }
            verdicts.append(verdict)
        }
        pages[page] = Gathering(asker: asker, parts: verdicts)
        if inventory.last { forgetUntold(by: name) }
        for incarnation in touched.sorted() { startChange(incarnation, at: now) }
        answerPage(page)
    }

    mutating func verdict(_ verdict: InventoryVerdict, page: Int, item: Int) {
        pages[page]?.set(verdict, at: item)
        answerPage(page)
    }

    private mutating func answerPage(_ number: Int) {
        guard let page = pages[number], let verdicts = page.whole else { return }
        pages[number] = nil
        reply(page.asker, InventoryReply(verdicts: verdicts))
    }

    /// After a whole inventory: what the worker was thought to hold and did not tell of is not there any more.
    private mutating func forgetUntold(by name: String) {
        guard let told = sessions[name]?.told else { return }
        for (incarnation, pipeline) in pipelines {
            for (identity, workers) in pipeline.holders
            where workers.contains(name) && !told.contains(.init(incarnation: incarnation, identity: identity)) {
                pipelines[incarnation]?.holders[identity]?.remove(name)
            }
        }
        sessions[name]?.told = nil
    }

    /// Processes that have been silent for too long are given up.
    mutating func findDead(_ now: Moment) {
        for name in sessions.keys.sorted() {
            guard let session = sessions[name], session.isAlive, now.monotonic.ms(since: session.heardAt) >= timing.silenceMs else { continue }
            sessions[name]?.isAlive = false
            sessions[name]?.isReady = false
            note("workerLost", nil, "\(session.role.rawValue) '\(name)' has been silent for \(timing.silenceMs) ms", at: now)
            if let lease = session.lease {
                sessions[name]?.lease = nil
                sessions[name]?.lostLease = lease
                lost(lease, name, "it is silent", at: now)
            }
        }
    }

    /// A worker that held a lease is gone: the piece goes to another, unless it has cost too many processes already.
    private mutating func lost(_ lease: LeaseIdentity, _ worker: String, _ how: String, at now: Moment) {
        guard leases.end(lease, of: worker) else { return }
        note("leaseLost", lease.pipeline, "\(Self.name(lease)) was with worker '\(worker)': \(how)", at: now)
        let deaths = leases.died(lease)
        guard deaths >= timing.deathsMax else { return }
        if lease.phase == .initial {
            let error = AccrueError(
                .engine, while: "applying pipeline '\(lease.pipeline)'", "\(deaths) worker processes ended while they made version 0", hint: "see the workers' logs, then apply it again")
            return initialFailed(lease, error)
        }
        if lease.phase == .check {
            return end(
                lease.attempt,
                AccrueError(
                    .engine, while: "trying what was proposed for pipeline '\(lease.pipeline)'", "\(deaths) worker processes ended while they tried it",
                    hint: "see the workers' logs"))
        }
        guard let pipeline = pipelines[lease.incarnation], pipeline.paused == nil else { return }
        let positions = pipeline.round?.positions(of: Piece(phase: lease.phase, sweep: lease.sweep, shard: lease.shard)) ?? []
        let reason =
            "\(deaths) worker processes ended during \(Self.name(lease)), which concerns positions \(positions.map(String.init).joined(separator: ", ")); "
            + "set a chunk aside or find the cause, then 'accrue pipeline resume \(pipeline.name)'"
        pipelines[lease.incarnation]?.changes.add(.pause(reason, nil))
        startChange(lease.incarnation, at: now)
    }

    static func name(_ lease: LeaseIdentity) -> String {
        let part = lease.phase == .fit || lease.phase == .statistics ? " of shard \(lease.shard)" : lease.phase == .score ? " of part \(lease.shard)" : ""
        return "\(lease.phase.rawValue)\(part) for version \(lease.version) of pipeline '\(lease.pipeline)'"
    }
}
