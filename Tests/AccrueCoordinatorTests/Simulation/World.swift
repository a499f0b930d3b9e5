import AccrueCore
import AccrueTesting
import AccrueWire
import AccrueWorker
import Foundation

@testable import AccrueCoordinator

/// A whole cluster in virtual time: a coordinator, workers, producers and a person, in a storm that ends.
final class World {
    /// One producer with window 1 and no decisions by people: any cluster must give the bytes of a local run.
    enum Kind { case ordered, free }

    static let poison = 666.0
    static func method(_ pipeline: PipelineDeclaration) -> HashChain { HashChain(poison: poison, schema: pipeline.schema) }
    static let settlingMsMax = 240_000
    /// A world in which more than this happens goes round in circles.
    static let stepsMax = 300_000
    static var timing: CoordinatorTiming {
        var timing = CoordinatorTiming()
        timing.stallMs = 8_000
        return timing
    }

    let seed: Int
    let kind: Kind
    let agenda = Agenda()
    let network: Network
    var dice: Dice
    private(set) var pipelines: [PipelineDeclaration] = []
    private(set) var content: [ContentHash: Rows] = [:]
    /// What a person may import.
    let files: [ContentHash: Data] = Dictionary(
        uniqueKeysWithValues: [HashChain.refused, Data("one".utf8), Data("two".utf8)].map { (ContentHash(of: $0), $0) })
    private(set) var workers: [SimulatedWorker] = []
    private(set) var producers: [SimulatedProducer] = []
    /// The values of each chunk of an ordered world, in order.
    private(set) var values: [[Double]] = []
    private(set) var witness: Witness!
    private(set) var coordinator: SimulatedCoordinator!
    private(set) var person: SimulatedPerson!

    // How bad it is.
    let storeMs: ClosedRange<Int>
    let workMs: ClosedRange<Int>
    let producerPauseMs: Int
    private var hangRate: Double
    private var isStorm = true

    private(set) var violations: [String] = []
    private let keepsHistory: Bool
    private(set) var history: [String] = []

    init(seed: Int, kind: Kind, home: String, keepsHistory: Bool) throws {
        self.seed = seed
        self.kind = kind
        self.keepsHistory = keepsHistory
        var dice = Dice(seed: UInt64(seed))
        network = Network(agenda: agenda, dice: Dice(seed: dice.next()))
        storeMs = 1...dice.one(of: [2, 30, 300])
        workMs = 1...dice.one(of: [10, 100, 600])
        producerPauseMs = dice.one(of: [20, 300, 2_000])
        hangRate = dice.one(of: [0, 0, 0.02])
        self.dice = dice
        witness = Witness(self)
        coordinator = SimulatedCoordinator(self, home: home)
        person = SimulatedPerson(self)
        workers = (1...self.dice.number(1...4)).map { SimulatedWorker(self, name: "w\($0)") }
        try declare()
    }

    private func declare() throws {
        // Dice of their own: a seed's other choices are what they were before there were replicas.
        var replicaDice = Dice(seed: UInt64(seed) + 1_000_000)
        for number in 1...(kind == .ordered ? 1 : dice.number(1...2)) {
            var pipeline = HashChain.pipeline(
                name: "p\(number)", seed: UInt64(dice.number(0...1_000)), chunks: dice.number(1...4), shards: dice.number(1...3), sweeps: dice.number(1...2))
            if workers.count > 1, replicaDice.chance(0.3) { pipeline.replicas = 2 }
            pipeline.schema = HashChain.schema(classes: ["a", "b"])
            if kind == .free, dice.chance(0.3) { pipeline.round.linger = Double(dice.number(1...4)) }
            pipelines.append(pipeline)
        }
        let poisonRate = kind == .free ? dice.one(of: [0, 0, 0.15]) : 0
        var shared: [Parcel] = []
        for number in 1...(kind == .ordered ? 1 : dice.number(1...3)) {
            var parcels: [Parcel] = []
            for index in 0..<dice.number(kind == .ordered ? 3...10 : 2...6) {
                var chunk = (0..<dice.number(1...4)).map { Double(1_000 * number + 10 * index + $0) }
                if dice.chance(poisonRate) { chunk[0] = Self.poison + 0 }
                let rows = try HashChain.rows(chunk)
                let key = dice.chance(0.5) ? "producer-\(number)/\(index)" : nil
                let parcel = Parcel(pipeline: dice.one(of: pipelines).name, key: key, identity: rows.identity)
                content[rows.identity] = rows
                if kind == .ordered { values.append(chunk) }
                parcels.append(parcel)
                guard kind == .free else { continue }
                // The same again, what another producer pushed, and the same content meant twice.
                if dice.chance(0.1) { parcels.append(dice.one(of: parcels)) }
                if dice.chance(0.1), !shared.isEmpty { parcels.append(dice.one(of: shared)) }
                if dice.chance(0.1) { parcels.append(Parcel(pipeline: parcel.pipeline, key: "twice-\(number)/\(index)", identity: parcel.identity)) }
                if dice.chance(0.05), let key { parcels.append(Parcel(pipeline: parcel.pipeline, key: key, identity: parcels[0].identity)) }
            }
            shared += parcels
            producers.append(SimulatedProducer(self, name: "producer-\(number)", parcels: parcels))
        }
    }

    /// Runs to the end, or to the first violation.
    func run() {
        let severity = dice.one(of: [0.0, 0.3, 1.0, 1.0])
        network.weather = Network.Weather(
            dropped: severity * 0.1, doubled: severity * 0.1, delayMs: 1...(severity == 0 ? 5 : dice.one(of: [5, 50, 400])))
        coordinator.start()
        for worker in workers { worker.start() }
        person.start()
        for producer in producers { producer.start() }
        let stormMs = dice.number(4_000...15_000)
        if severity > 0 { brew(severity) }
        agenda.every(2_000) { [unowned self] in
            person.watch(flushing: !isStorm)
            return true
        }
        agenda.after(stormMs) { [unowned self] in heal() }
        var steps = 0
        while violations.isEmpty, !(person.isContent && isAtRest) {
            steps += 1
            guard agenda.step(), steps < Self.stepsMax else { return violated("after \(steps) steps it goes round in circles, or nothing happens any more") }
            if agenda.nowMs > stormMs + Self.settlingMsMax { return unsettled() }
        }
        guard violations.isEmpty else { return }
        note("at rest after \(steps) steps")
        witness.judge(coordinator.pipelines, coordinator.store)
        if kind == .ordered { compareWithLocalRun() }
    }

    /// Imports and appended classes wait like rounds, but no chunk shows it.
    private var isAtRest: Bool { coordinator.isUp && coordinator.pipelines.allSatisfy { $0.log.completeRounds == 0 } }

    // The storm.

    private func brew(_ severity: Double) {
        func again(_ meanMs: Int, _ strike: @escaping () -> Void) {
            agenda.after(dice.number(1...2 * meanMs)) { [unowned self] in
                guard isStorm else { return }
                strike()
                again(meanMs, strike)
            }
        }
        let meanMs = Int(4_000 / severity)
        if dice.chance(0.7) { again(meanMs) { [unowned self] in crash(dice.one(of: workers)) } }
        if dice.chance(0.7) { again(2 * meanMs) { [unowned self] in crashCoordinator() } }
        if dice.chance(0.5) { again(2 * meanMs) { [unowned self] in silence(dice.one(of: workers).name) } }
        if dice.chance(0.3) { again(3 * meanMs) { [unowned self] in coordinator.jumpClock(ms: dice.one(of: [500, 4_000, 100_000])) } }
        if dice.chance(0.3) { again(2 * meanMs) { [unowned self] in fill(dice.one(of: workers)) } }
        guard kind == .free else { return }
        again(2 * meanMs) { [unowned self] in person.flush(dice.one(of: pipelines).name) }
        if dice.chance(0.5) {
            let undecidedMs = dice.one(of: [300, 1_500, 6_000])
            again(undecidedMs) { [unowned self] in person.setAside(dice.one(of: pipelines).name) }
            again(undecidedMs) { [unowned self] in person.retry(dice.one(of: pipelines).name) }
        }
        // Dice of their own, as replicas have.
        var changeDice = Dice(seed: UInt64(seed) + 2_000_000)
        if changeDice.chance(0.4) { again(2 * meanMs) { [unowned self] in person.importFile(dice.one(of: pipelines).name) } }
        if changeDice.chance(0.4) { again(2 * meanMs) { [unowned self] in person.appendClass(dice.one(of: pipelines)) } }
        if dice.chance(0.15) { again(4 * meanMs) { [unowned self] in person.deleteAndApply(dice.one(of: pipelines)) } }
    }

    private func crash(_ worker: SimulatedWorker) {
        worker.crash()
        agenda.after(dice.number(10...6_000)) { worker.start() }
    }

    private func crashCoordinator() {
        coordinator.crash()
        agenda.after(dice.number(10...5_000)) { [unowned self] in coordinator.start() }
    }

    private func silence(_ end: String) {
        note("\(end) is cut off")
        network.silence(end)
        agenda.after(dice.number(500...8_000)) { [unowned self] in network.hear(end) }
    }

    private func fill(_ worker: SimulatedWorker) {
        note("the disk of \(worker.name) is full")
        worker.isFull = true
        agenda.after(dice.number(500...8_000)) { worker.isFull = false }
    }

    private func heal() {
        note("the storm is over")
        isStorm = false
        hangRate = 0
        network.weather = .fine
        for worker in workers {
            network.hear(worker.name)
            worker.isFull = false
            worker.start()
        }
        coordinator.start()
    }

    // What the others ask.

    func hangs() -> Bool { dice.chance(hangRate) }

    func isPoisoned(_ identity: ContentHash) -> Bool { content[identity]?.tensors["values"]?.doubles().contains(Self.poison) ?? false }

    /// One leased piece of work, really done.
    func perform(_ task: LeaseTask, _ blobs: [ContentHash: Data]) throws(AccrueError) -> LeaseExecution.Product {
        var inputs = LeaseInputs(
            base: task.base.flatMap { blobs[$0] }, imported: task.imported.flatMap { blobs[$0] }, work: task.work.flatMap { blobs[$0] }, parts: task.parts.compactMap { blobs[$0.blob] })
        inputs.rows = task.rows.compactMap { range in content[range.identity]?.rows(range.firstRow..<range.firstRow + range.rows) }
        return try LeaseExecution(method: Self.method(task.declaration), task: task).perform(inputs)
    }

    // What comes of it.

    func note(_ line: @autoclosure () -> String) { if keepsHistory { history.append("\(agenda.nowMs) ms: \(line())") } }

    func violated(_ what: String) {
        violations.append("at \(agenda.nowMs) ms: \(what)")
        note("VIOLATED: \(what)")
    }

    private func unsettled() {
        let states = coordinator.pipelines.map { pipeline in
            "\(pipeline.name): \(pipeline.status()), round \(pipeline.round.map { "\($0.version)/\($0.attempt) \($0.openPieces)" } ?? "none")"
        }
        violated("it does not settle; producers done: \(producers.map(\.isDone)); \(states.joined(separator: "; "))")
    }

    private func compareWithLocalRun() {
        do {
            var ranges: [Range<Int>] = []
            for chunk in values { ranges.append((ranges.last?.upperBound ?? 0)..<(ranges.last?.upperBound ?? 0) + chunk.count) }
            let rows = try HashChain.rows(values.flatMap(\.self))
            let last = try LocalRun(pipeline: pipelines[0], method: Self.method(pipelines[0]), rows: rows, chunks: ranges).run { _ in }
            if witness.lastState(coordinator.store) != last.state { violated("the last version differs from a local run") }
        } catch { violated("the local run fails: \(error)") }
    }
}
