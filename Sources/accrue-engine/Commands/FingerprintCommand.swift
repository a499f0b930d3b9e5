import AccrueCore
import AccrueTensor
import ArgumentParser

/// `accrue-engine fingerprint`: what this machine's results depend on besides settings, seed and log.
struct FingerprintCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fingerprint", abstract: "Say which numerical library, BLAS and kernels this engine computes with.",
        discussion: "Engines with equal fingerprints make equal posteriors, byte by byte.")

    @Flag(help: "One JSON object.") var json = false

    func run() throws {
        EngineFingerprint.beginThread()
        let fingerprint = EngineFingerprint.current()
        print(json ? try JSONValue(encoding: fingerprint).canonical : fingerprint.description)
    }
}
