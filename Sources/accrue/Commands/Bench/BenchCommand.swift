import ArgumentParser

/// `accrue bench …`
struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Measure a running daemon, or the engine.",
        subcommands: [Query.self, Ingest.self, Swap.self, Step.self, Fisher.self, Merge.self, Push.self, Announce.self, Log.self, Predict.self])
}
