import AccrueCore
import Foundation
import Testing

@Suite("Exports")
struct PosteriorExportTests {
    private static let state = Safetensors(tensors: ["mean": TensorBytes([1.0, 2], shape: [2])], metadata: ["roles": #"{"mean":"mean"}"#, "method": "toy"])

    @Test("an export has the state's tensors, what the method said of them, and what they are a version of")
    func metadata() throws {
        let export = try Safetensors.decode(try PosteriorExport(state: Self.state.encode(), pipeline: "digits", version: 7, method: "Toy").bytes)
        #expect(export.tensors == Self.state.tensors)
        #expect(export.metadata == ["pipeline": "digits", "version": "7", "method": "Toy", "roles": #"{"mean":"mean"}"#])
    }

    @Test("what is no state is refused, naming the version")
    func corrupt() {
        let error = #expect(throws: AccrueError.self) { try PosteriorExport(state: Data("{}".utf8), pipeline: "digits", version: 7, method: "Toy") }
        #expect(error?.code == .corrupt && error?.operation.contains("version 7 of pipeline 'digits'") == true)
    }

    @Test("a file that cannot be written is named")
    func unwritable() throws {
        let export = try PosteriorExport(state: Self.state.encode(), pipeline: "digits", version: 7, method: "Toy")
        let error = #expect(throws: AccrueError.self) { try export.write(to: "/nonexistent/posterior.safetensors") }
        #expect(error?.code == .unavailable && error?.operation.contains("/nonexistent/posterior.safetensors") == true)
    }
}
