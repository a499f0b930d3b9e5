import AccrueCore
import AccrueMethods
import AccrueTensor
import AccrueWorker
import ArgumentParser
import Foundation

/// `accrue-engine bench-swap`: how long the swap of a served version takes, for the pipeline file on standard input.
struct BenchSwapCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "bench-swap", abstract: "Measure the swap of versions of the pipeline file on standard input.")

    @Option(help: "How many.") var swaps: Int
    @Flag(help: "Print JSON.") var json = false

    func run() throws {
        EngineFingerprint.beginThread()
        let pipeline = try PipelineDeclaration(parsing: try JSONValue(parsing: FileHandle.standardInput.allBytes()))
        BenchProblem.show(try SwapMeasurement(pipeline, method: try MethodCatalog.standard.make(pipeline)).run(swaps: swaps), json: json)
    }
}
