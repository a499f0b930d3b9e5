import Foundation
import Testing

@Suite("accrue pipeline validate, with an engine")
struct ValidateTests {
    @Test("what the method refuses is refused here, with its code, and of a profile with its name")
    func settings() async throws {
        #expect(try await PipelineCommandTests.validate(PipelineCommandTests.regression).status == 0)
        let wrong = try await PipelineCommandTests.validate(PipelineCommandTests.regression.replacingOccurrences(of: "settings: {model", with: "settings: {epocs: 2, model"))
        #expect(wrong.status == 3 && wrong.errors.contains("did you mean 'epochs'?") && wrong.output.isEmpty)
        let profile = try await PipelineCommandTests.validate(PipelineCommandTests.regression.replacingOccurrences(of: "epochs: 3", with: "epochs: 0"))
        #expect(profile.status == 3 && profile.errors.contains("with profile 'quick'") && profile.errors.contains("epochs"))
        #expect(try await PipelineCommandTests.validate(PipelineCommandTests.regression.replacingOccurrences(of: "IncrementalBayes", with: "Bayes")).status == 4)
    }
}
