import AccrueCore
import Foundation

/// Two spirals that a small network learns in ten rounds, each long enough to be killed in; with the pipeline that streams them.
final class SpiralRows {
    /// What learns them: a method and its settings, as YAML.
    struct Learner: CustomStringConvertible {
        var method: String
        var settings: [String]
        /// Rows of the spirals that are learned; the rest is not streamed.
        var rows = SpiralRows.rows
        /// Whether each point is drawn as a small picture, for methods that learn nothing else.
        var drawsPictures = false
        var description: String { method }

        static let incremental = Learner(method: "IncrementalBayes", settings: ["model: {kind: mlp, hidden: [64, 64]}", "epochs: 60", "batch: 16"])
        /// With parts of a state of every kind: sites, moments of batches, variances, counts of routes.
        static let others = [
            Learner(method: "VariationalDropout", settings: ["model: {kind: mlp, hidden: [64, 64]}", "epochs: 20", "batch: 20", "penalty: hierarchical"], rows: 300),
            Learner(method: "StochasticBatchNorm", settings: ["model: {kind: mlp, hidden: [64, 64], batchNorm: true}", "epochs: 20", "batch: 20", "dropout: 0.1"], rows: 300),
            Learner(method: "VarianceNetwork", settings: ["model: {kind: mlp, hidden: [64, 64], batchNorm: true}", "layers: [dense2]", "epochs: 20", "batch: 20"], rows: 300),
            Learner(
                method: "DynamicRouting",
                settings: ["model: {channels: [4, 8], units: [2, 2]}", "order: {share: 0.5}", "temperature: {hard: 0.3}", "epochs: 10", "batch: 20"], rows: 300,
                drawsPictures: true),
        ]
    }

    static let rows = 1_000
    static let rowsPerChunk = 50
    /// Of a picture, in pixels.
    static let side = 4

    let folder: URL
    private let learner: Learner

    init(_ learner: Learner = .incremental) throws {
        self.learner = learner
        folder = FileManager.default.temporaryDirectory.appendingPathComponent("accrue-s-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        var inputs: [Float] = [], targets: [UInt8] = []
        for row in 0..<Self.rows {
            let turn = Float(row * 7_919 % Self.rows) / Float(Self.rows) * 6
            let side: Float = row % 2 == 0 ? 1 : -1
            let point = (x: side * turn * cos(turn) / 6, y: side * turn * sin(turn) / 6)
            inputs += learner.drawsPictures ? Self.picture(of: point) : [point.x, point.y]
            targets.append(UInt8(row % 2))
        }
        let shape = learner.drawsPictures ? [1, Self.side, Self.side] : [2]
        try Safetensors(tensors: ["inputs": TensorBytes(inputs, shape: [Self.rows] + shape)]).encode().write(to: folder.appendingPathComponent("inputs.safetensors"))
        try Safetensors(tensors: ["targets": TensorBytes(targets, shape: [Self.rows])]).encode().write(to: folder.appendingPathComponent("targets.safetensors"))
        try Data(
            """
            name: spirals
            method: \(learner.method)
            seed: 11
            schema:
              - {name: inputs, role: input, dtype: F32, shape: \(shape)}
              - {name: targets, role: target, dtype: U8, shape: [], classes: [left, right]}
            settings:
              \(learner.settings.joined(separator: "\n  "))
            round: {chunks: 2}
            shards: 2
            sweeps: 2
            source:
              tensors: {inputs: inputs.safetensors, targets: targets.safetensors}
              rows: \(learner.rows)
              rowsPerChunk: \(Self.rowsPerChunk)
            """.utf8
        ).write(to: folder.appendingPathComponent("spirals.yaml"))
    }

    /// Each pixel is the brighter the nearer its middle lies to the point.
    private static func picture(of point: (x: Float, y: Float)) -> [Float] {
        (0..<side * side).map { pixel in
            let (across, down) = (Float(pixel % side) - 1.5 - point.x, Float(pixel / side) - 1.5 - point.y)
            return exp(-(across * across + down * down))
        }
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    func path(_ name: String) -> String { folder.appendingPathComponent(name).path }
    var pipeline: String { path("spirals.yaml") }

    func pushing(_ daemon: Daemon) throws -> RunningProgram {
        try daemon.follow(
            "push", "spirals", "--tensor", "inputs=\(path("inputs.safetensors"))", "--tensor", "targets=\(path("targets.safetensors"))", "--rows",
            "\(learner.rows)", "--rows-per-chunk", "\(Self.rowsPerChunk)", "--wait")
    }
}
