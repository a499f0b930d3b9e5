import AccrueCore
import Foundation

/// The rows of pipelines/linear-golden.yaml as files, in a folder of their own.
final class GoldenRows {
    static let pipeline = PipelineCommandTests.pipelines.appendingPathComponent("linear-golden.yaml").path

    let folder: URL

    init() throws {
        folder = FileManager.default.temporaryDirectory.appendingPathComponent("accrue-g-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try write("inputs", TensorBytes([1, 0, 1, 1, 1, 2, 1, 3] as [Double], shape: [4, 2]))
        try write("targets", TensorBytes([1, 2, 2, 4] as [Double], shape: [4]))
        try Data("bias,x,y\n1,0,1\n1,1,2\n1,2,2\n1,3,4\n".utf8).write(to: folder.appendingPathComponent("rows.csv"))
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    func path(_ name: String) -> String { folder.appendingPathComponent(name).path }
    var inputs: String { "inputs=\(path("inputs.safetensors"))" }
    var targets: String { "targets=\(path("targets.safetensors"))" }
    var csv: String { path("rows.csv") }

    func write(_ name: String, _ tensor: TensorBytes) throws {
        try Safetensors(tensors: [name: tensor]).encode().write(to: folder.appendingPathComponent("\(name).safetensors"))
    }

    /// The golden pipeline, changed: another name, and text in place of other text.
    func pipeline(_ name: String, replacing: [String: String] = [:]) throws -> String {
        var text = try String(contentsOfFile: Self.pipeline, encoding: .utf8).replacingOccurrences(of: "name: linear-golden", with: "name: \(name)")
        for (old, new) in replacing { text = text.replacingOccurrences(of: old, with: new) }
        try Data(text.utf8).write(to: folder.appendingPathComponent("\(name).yaml"))
        return path("\(name).yaml")
    }
}
