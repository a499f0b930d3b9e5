@testable import AccrueHTTP
import AccrueWire
import Testing

@Suite("Figures for Prometheus")
struct MetricsTests {
    @Test("every pipeline, member and kind of answer has its samples, with labels that are escaped")
    func samples() {
        let pipeline = PipelineStatus(
            name: "digits", incarnation: "1", state: .paused, version: 3, position: 8, absorbed: .init(chunks: 6, rows: 60), waiting: .init(chunks: 1, rows: 10),
            setAside: .init(chunks: 1, rows: 4), workers: 2, figures: ["accuracy": 0.5])
        let status = ClusterStatus(boot: "b", pipelines: [pipeline], workers: [WorkerStatus(name: "wor\"ker\\", role: .worker, endpoint: nil, alive: false)])
        let counts = RequestCounts()
        for _ in 0..<3 { counts.add(.init(method: "GET", route: "/v1/status", status: 200), seconds: 0.5) }
        let lines = Set(Metrics(status, requests: counts.sorted).text.split(separator: "\n").map(String.init))
        let expected = [
            "accrue_version{pipeline=\"digits\"} 3.0", "accrue_log_position{pipeline=\"digits\"} 8.0", "accrue_chunks{pipeline=\"digits\",state=\"absorbed\"} 6.0",
            "accrue_rows{pipeline=\"digits\",state=\"waiting\"} 10.0", "accrue_chunks{pipeline=\"digits\",state=\"setAside\"} 1.0",
            "accrue_pipeline_state{pipeline=\"digits\",state=\"paused\"} 1.0", "accrue_pipeline_state{pipeline=\"digits\",state=\"active\"} 0.0",
            "accrue_leases{pipeline=\"digits\"} 2.0", "accrue_score{figure=\"accuracy\",pipeline=\"digits\"} 0.5",
            "accrue_member_alive{name=\"wor\\\"ker\\\\\",role=\"worker\"} 0.0", "accrue_http_requests_total{method=\"GET\",route=\"/v1/status\",status=\"200\"} 3.0",
            "accrue_http_request_seconds_total{method=\"GET\",route=\"/v1/status\",status=\"200\"} 1.5",
        ]
        for line in expected { #expect(lines.contains(line), "\(line)") }
        #expect(lines.contains("# TYPE accrue_http_requests_total counter"))
    }
}
