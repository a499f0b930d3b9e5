import AccrueWire
import Foundation

/// A daemon's figures in the text format of Prometheus (version 0.0.4).
struct Metrics {
    private var lines: [String] = []

    init(_ status: ClusterStatus, requests: [(key: RequestCounts.Key, amount: RequestCounts.Amount)]) {
        let pipelines = status.pipelines
        add("accrue_version", "The newest version of a posterior.", "gauge", pipelines.map { (["pipeline": $0.name], Double($0.version)) })
        add("accrue_log_position", "The last position of a pipeline's log.", "gauge", pipelines.map { (["pipeline": $0.name], Double($0.position)) })
        let amounts = pipelines.flatMap { pipeline in
            [("absorbed", pipeline.absorbed), ("waiting", pipeline.waiting), ("setAside", pipeline.setAside)].map { (["pipeline": pipeline.name, "state": $0.0], $0.1) }
        }
        add("accrue_chunks", "Chunks by what became of them.", "gauge", amounts.map { ($0.0, Double($0.1.chunks)) })
        add("accrue_rows", "Rows by what became of them.", "gauge", amounts.map { ($0.0, Double($0.1.rows)) })
        add(
            "accrue_pipeline_state", "1 for the state that a pipeline is in.", "gauge",
            pipelines.flatMap { pipeline in
                [PipelineStatus.State.active, .paused, .blocked].map { (["pipeline": pipeline.name, "state": $0.rawValue], pipeline.state == $0 ? 1 : 0) }
            })
        add("accrue_leases", "Workers that learn for a pipeline now.", "gauge", pipelines.map { (["pipeline": $0.name], Double($0.workers)) })
        add(
            "accrue_score", "How the version before predicted the newest version's rows.", "gauge",
            pipelines.flatMap { pipeline in (pipeline.figures ?? [:]).sorted { $0.key < $1.key }.map { (["pipeline": pipeline.name, "figure": $0.key], $0.value) } })
        add("accrue_member_alive", "1 for a worker or querier that is there.", "gauge", status.workers.map { (["name": $0.name, "role": $0.role.rawValue], $0.alive ? 1 : 0) })
        let labelled = requests.map { (["method": $0.key.method, "route": $0.key.route, "status": String($0.key.status)], $0.amount) }
        add("accrue_http_requests_total", "Requests answered.", "counter", labelled.map { ($0.0, Double($0.1.count)) })
        add("accrue_http_request_seconds_total", "Time that answers took.", "counter", labelled.map { ($0.0, $0.1.seconds) })
    }

    var text: String { lines.joined(separator: "\n") + "\n" }

    private mutating func add(_ name: String, _ help: String, _ type: String, _ samples: [([String: String], Double)]) {
        lines.append("# HELP \(name) \(help)")
        lines.append("# TYPE \(name) \(type)")
        for (labels, value) in samples {
            let text = labels.sorted { $0.key < $1.key }.map { "\($0.key)=\"\(Self.escaped($0.value))\"" }.joined(separator: ",")
            lines.append("\(name){\(text)} \(value)")
        }
    }

    private static func escaped(_ text: String) -> String {
        text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
    }
}
