import AccrueCore
import ArgumentParser

extension BenchCommand {
    /// `accrue bench step`
    struct Step: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Time training steps of a model on one thread, with random rows; no daemon is needed.",
            discussion: """
                A step is all that a fit does for one batch: rows, gradient, prior, optimiser and average.

                EXAMPLES
                  accrue bench step --model lenet5 --inference variational
                  accrue bench step --model mlp --inference laplace --steps 200 --json
                """)

        @Option(help: "lenet5, conv3 or mlp.") var model: String
        @Option(help: "variational, laplace or naturalGradient.") var inference: String
        @Option(help: "Rows a step.") var batch = 128
        @Option(help: "Steps to time.") var steps = 60
        @Option(help: "The fused kernels: reference, baseline, avx2, avx512 or widest.") var kernels = "widest"
        @Flag(help: "Print JSON.") var json = false

        func run() throws {
            try EngineProgram.become(
                ["bench-step", "--model", model, "--inference", inference, "--batch", String(batch), "--steps", String(steps), "--kernels", kernels]
                    + (json ? ["--json"] : []))
        }
    }
}
