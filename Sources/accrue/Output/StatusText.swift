import AccrueWire

/// How pipelines and processes are, for people.
enum StatusText {
    /// A whole cluster.
    static func lines(of status: ClusterStatus) -> [String] {
        var pipelines = TextTable("pipeline", "state", "version", "absorbed", "rows", "waiting", "set aside", "position", "leases")
        for pipeline in status.pipelines {
            pipelines.add(
                pipeline.name, pipeline.state.rawValue, "\(pipeline.version)", "\(pipeline.absorbed.chunks)", "\(pipeline.absorbed.rows)",
                "\(pipeline.waiting.chunks)", "\(pipeline.setAside.chunks)", "\(pipeline.position)", "\(pipeline.workers)")
        }
        var lines = pipelines.isEmpty ? ["no pipeline yet; make one with 'accrue pipeline apply FILE'"] : pipelines.lines
        for pipeline in status.pipelines { lines += remarks(on: pipeline).map { "\(pipeline.name): \($0)" } }
        var processes = TextTable("process", "role", "alive", "works on", "endpoint")
        for process in status.workers {
            processes.add(process.name, process.role.rawValue, process.alive ? "yes" : "no", work(of: process), process.endpoint.map(KeyedEndpoint.address) ?? "-")
        }
        lines.append("")
        return lines + (processes.isEmpty ? ["no worker has joined"] : processes.lines)
    }

    /// One pipeline.
    static func lines(of pipeline: PipelineStatus) -> [String] {
        [
            "state        \(pipeline.state.rawValue), version \(pipeline.version), log position \(pipeline.position)",
            "absorbed     \(pipeline.absorbed.chunks) chunks, \(pipeline.absorbed.rows) rows",
            "waiting      \(pipeline.waiting.chunks) chunks, \(pipeline.waiting.rows) rows",
            "set aside    \(pipeline.setAside.chunks) chunks, \(pipeline.setAside.rows) rows",
        ] + remarks(on: pipeline)
    }

    /// What a person should know besides the numbers.
    static func remarks(on pipeline: PipelineStatus) -> [String] {
        var remarks: [String] = []
        if let trouble = trouble(of: pipeline) { remarks.append(trouble) }
        if let figures = pipeline.figures, !figures.isEmpty { remarks.append("scored before learning: \(Output.figures(figures))") }
        return remarks
    }

    /// Why a pipeline does not go on, if it does not.
    static func trouble(of pipeline: PipelineStatus) -> String? {
        switch pipeline.state {
        case .active: return pipeline.reason.map { "active, but \($0)" }
        case .paused: return "paused: \(pipeline.reason ?? "no reason given"); 'accrue pipeline resume \(pipeline.name)' lets it go on"
        case .blocked:
            guard let blocked = pipeline.blocked else { return "blocked: \(pipeline.reason ?? "no reason given")" }
            let worker = blocked.worker.map { "worker '\($0)', which is away" } ?? "no worker that is there"
            return "blocked since \(Output.time(blocked.sinceMs)): chunk \(blocked.chunk.short) at position \(blocked.position) is held by \(worker)"
        }
    }

    private static func work(of process: WorkerStatus) -> String {
        guard let lease = process.lease else { return "-" }
        let step = process.step.map { ", step \($0)" } ?? ""
        return "\(lease.pipeline) version \(lease.version): \(lease.phase.rawValue) \(lease.shard)\(step)"
    }
}
